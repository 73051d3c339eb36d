//! Batches of exactly `k` passes. A baseline.
//!
//! Read strictly it hangs as soon as fewer than `k` programs are left, so a pass that has waited for `LEFTOVER` goes anyway.

use std::time::Duration;

use super::kort::KOrT;
use super::{Fire, Policy, QueueState};

pub(super) struct K {
    pub(super) k: u32,
}

/// Long beside any batch, short beside anyone's patience.
const LEFTOVER: Duration = Duration::from_millis(100);

impl Policy for K {
    fn fire(&self, queue: &QueueState<'_>) -> Fire {
        KOrT { k: self.k, t: LEFTOVER }.fire(queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::queue;

    #[test]
    fn k_or_what_is_left_over() {
        let k = K { k: 4 };
        assert_eq!(k.fire(&queue(0, 3)), Fire::NotBefore { until: LEFTOVER, arrivals: 1 });
        assert_eq!(k.fire(&queue(0, 9)), Fire::Now { at_most: 4 });
        assert_eq!(k.fire(&queue(100_000, 3)), Fire::Now { at_most: 4 });
    }
}
