//! Everything that waits, when the oldest pass has waited `t`. A baseline.

use std::time::Duration;

use super::{Fire, Policy, QueueState};

pub(super) struct T {
    pub(super) t: Duration,
}

impl Policy for T {
    fn fire(&self, queue: &QueueState<'_>) -> Fire {
        let until = (queue.oldest)().saturating_add(self.t);
        if queue.now >= until {
            Fire::Now { at_most: u32::MAX }
        } else {
            Fire::NotBefore { until, arrivals: u32::MAX }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::queue;

    #[test]
    fn when_the_oldest_has_waited() {
        let t = T { t: Duration::from_micros(50) };
        assert_eq!(
            t.fire(&queue(10, 9)),
            Fire::NotBefore { until: Duration::from_micros(50), arrivals: u32::MAX }
        );
        assert_eq!(t.fire(&queue(50, 1)), Fire::Now { at_most: u32::MAX });
    }
}
