//! `k` passes, or fewer when the oldest has waited `t`. A baseline.

use std::time::Duration;

use super::{Fire, Policy, View};

pub(super) struct KOrT {
    pub(super) k: u32,
    pub(super) t: Duration,
}

impl Policy for KOrT {
    fn fire(&self, view: &View<'_>) -> Fire {
        let until = (view.oldest)().saturating_add(self.t);
        if view.waiting >= self.k || view.now >= until {
            Fire::Now { at_most: self.k }
        } else {
            Fire::At { until, arrivals: self.k - view.waiting }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::view;

    #[test]
    fn whichever_comes_first() {
        let kort = KOrT { k: 4, t: Duration::from_micros(50) };
        assert_eq!(kort.fire(&view(10, 3)), Fire::At { until: Duration::from_micros(50), arrivals: 1 });
        assert_eq!(kort.fire(&view(10, 5)), Fire::Now { at_most: 4 });
        assert_eq!(kort.fire(&view(50, 1)), Fire::Now { at_most: 4 });
    }
}
