//! Work-conserving batching that keeps cohorts together.
//!
//! While a batch runs, passes queue; when the backend is idle everything goes. The one refinement over the paper: right
//! after a batch, most of the inferlets it answered are about to come back, a few microseconds apart. Firing at the
//! first would split the cohort for good, so it waits until all of them are back, or for a bound that is small beside
//! the batch itself. When all is quiet the first pass fires at once.

use std::time::Duration;

use super::{Fire, Policy, QueueState};

pub(super) struct Adaptive;

/// An inferlet that is expected back needs 10 to 100 µs to sample and ask again, one that answers a request 300 µs, and
/// several share the cores, with those who read the answers; one that takes longer is doing something else. With 2 ms, one
/// step in a hundred of 16 streams missed its batch, and waited for one of twice the length where a prompt was in it.
const BOUND: Duration = Duration::from_millis(4);

/// And one part of the last batch in so many: half of a cohort costs more than half as much as all of it.
const SHARE: u32 = 5;

impl Policy for Adaptive {
    fn fire(&self, queue: &QueueState<'_>) -> Fire {
        let now = Fire::Now { at_most: u32::MAX };
        let Some((completed, lasted)) = queue.completed.filter(|_| queue.expected_back > 0) else {
            return now;
        };
        let until = completed + BOUND.min(lasted / SHARE);
        if queue.now >= until { now } else { Fire::NotBefore { until, arrivals: queue.expected_back } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::queue;

    #[test]
    fn waits_for_those_just_answered_but_not_long() {
        let us = Duration::from_micros;
        let now = Fire::Now { at_most: u32::MAX };
        assert_eq!(Adaptive.fire(&queue(0, 1)), now);
        let after = |now_us, lasted| QueueState {
            expected_back: 3,
            completed: Some((us(100), us(lasted))),
            ..queue(now_us, 1)
        };
        assert_eq!(Adaptive.fire(&after(110, 2000)), Fire::NotBefore { until: us(500), arrivals: 3 });
        assert_eq!(Adaptive.fire(&after(110, 90_000)), Fire::NotBefore { until: us(4100), arrivals: 3 });
        assert_eq!(Adaptive.fire(&after(4100, 90_000)), now);
        assert_eq!(Adaptive.fire(&QueueState { expected_back: 0, ..after(110, 2000) }), now);
    }
}
