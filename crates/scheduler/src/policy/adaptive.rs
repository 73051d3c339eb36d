//! Work-conserving batching that keeps cohorts together.
//!
//! While a batch runs, passes queue; when the backend is idle everything goes. The one refinement over the paper: right
//! after a batch, most of the inferlets it answered are about to come back, a few microseconds apart. Firing at the
//! first would split the cohort for good, so it waits until all of them are back, or for a bound that is small beside
//! the batch itself. When all is quiet the first pass fires at once.

use std::time::Duration;

use super::{Fire, Policy, View};

pub(super) struct Adaptive;

/// An awake inferlet needs 10 to 100 µs to sample and ask again; one that takes longer is doing something else.
const BOUND: Duration = Duration::from_micros(500);

impl Policy for Adaptive {
    fn fire(&self, view: &View<'_>) -> Fire {
        let now = Fire::Now { at_most: u32::MAX };
        let Some((completed, lasted)) = view.completed.filter(|_| view.awake > 0) else { return now };
        let until = completed + BOUND.min(lasted / 10);
        if view.now >= until { now } else { Fire::At { until, arrivals: view.awake } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::view;

    #[test]
    fn waits_for_those_just_answered_but_not_long() {
        let us = Duration::from_micros;
        let now = Fire::Now { at_most: u32::MAX };
        assert_eq!(Adaptive.fire(&view(0, 1)), now);
        let after =
            |now_us, lasted| View { awake: 3, completed: Some((us(100), us(lasted))), ..view(now_us, 1) };
        assert_eq!(Adaptive.fire(&after(110, 2000)), Fire::At { until: us(300), arrivals: 3 });
        assert_eq!(Adaptive.fire(&after(110, 90_000)), Fire::At { until: us(600), arrivals: 3 });
        assert_eq!(Adaptive.fire(&after(600, 90_000)), now);
        assert_eq!(Adaptive.fire(&View { awake: 0, ..after(110, 2000) }), now);
    }
}
