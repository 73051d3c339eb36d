//! `k` passes, or fewer when the oldest has waited `t`. A baseline.

use std::time::Duration;

use super::{Fire, Policy, QueueState};

pub(super) struct KOrT {
    pub(super) k: u32,
    pub(super) t: Duration,
}

impl Policy for KOrT {
    fn fire(&self, queue: &QueueState<'_>) -> Fire {
        let until = (queue.oldest)().saturating_add(self.t);
        if queue.waiting >= self.k || queue.now >= until {
            Fire::Now { at_most: self.k }
        } else {
            Fire::NotBefore { until, arrivals: self.k - queue.waiting }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::queue;

    #[test]
    fn whichever_comes_first() {
        let kort = KOrT { k: 4, t: Duration::from_micros(50) };
        assert_eq!(
            kort.fire(&queue(10, 3)),
            Fire::NotBefore { until: Duration::from_micros(50), arrivals: 1 }
        );
        assert_eq!(kort.fire(&queue(10, 5)), Fire::Now { at_most: 4 });
        assert_eq!(kort.fire(&queue(50, 1)), Fire::Now { at_most: 4 });
    }
}
