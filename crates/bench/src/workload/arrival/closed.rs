//! A fixed number of users, each of which sends its next request when it has its answer, after a pause.

use super::Spec;

pub(super) const SPEC: Spec = Spec {
    name: "closed",
    form: "closed:USERS[,think=0]",
    about: "so many users, each waits for its answer and then for `think` seconds on average",
    first: "users",
    values: &[("users", None, (1.0, 1e6)), ("think", Some(0.0), (0.0, 1e6))],
    rate: |_| None,
    moments: |_, _, _| Vec::new(),
};
