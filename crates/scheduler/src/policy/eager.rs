//! No batching: every pass alone, as soon as the backend is idle. A baseline.

use super::{Fire, Policy, QueueState};

pub(super) struct Eager;

impl Policy for Eager {
    fn fire(&self, _view: &QueueState<'_>) -> Fire {
        Fire::Now { at_most: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::queue;

    #[test]
    fn one_at_a_time() {
        assert_eq!(Eager.fire(&queue(0, 9)), Fire::Now { at_most: 1 });
    }
}
