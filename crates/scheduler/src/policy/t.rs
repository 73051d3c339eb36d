//! Everything that waits, when the oldest pass has waited `t`. A baseline.

use std::time::Duration;

use super::{Fire, Policy, View};

pub(super) struct T {
    pub(super) t: Duration,
}

impl Policy for T {
    fn fire(&self, view: &View<'_>) -> Fire {
        let until = (view.oldest)().saturating_add(self.t);
        if view.now >= until {
            Fire::Now { at_most: u32::MAX }
        } else {
            Fire::At { until, arrivals: u32::MAX }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::view;

    #[test]
    fn when_the_oldest_has_waited() {
        let t = T { t: Duration::from_micros(50) };
        assert_eq!(t.fire(&view(10, 9)), Fire::At { until: Duration::from_micros(50), arrivals: u32::MAX });
        assert_eq!(t.fire(&view(50, 1)), Fire::Now { at_most: u32::MAX });
    }
}
