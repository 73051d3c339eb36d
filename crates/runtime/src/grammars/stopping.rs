//! Stopping work in a grammar in its middle.
//!
//! How long the library takes for a grammar, or for a step in one, nobody knows beforehand: `a?` thirty thousand times is
//! a text of 64 KiB whose first step takes minutes, and gigabytes. So its copy in `third_party/derivre` asks, every few thousand
//! expressions made and numbers hashed, whether the work is still wanted, and unwinds if not.

use std::cell::Cell;
use std::time::Duration;

use llguidance::derivre::interrupt::{made_bytes, while_wanted};
use model::Wanted;

use crate::error::ApiError;
use crate::inferlet::thread_time;

/// Processor time of one piece of work on the threads for long work: a grammar that is compiled, a step in one.
pub(crate) const LONG: Duration = Duration::from_secs(5);
/// Processor time of a step on a thread that runs programs, which the steps before let expect a short one.
pub(crate) const SHORT: Duration = Duration::from_millis(250);

/// Bytes of the expressions that one piece of work makes.
const EXPRESSION_BYTES: usize = 128 << 20;

/// Why work was stopped in its middle. What it was changing is not to be used again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stopped {
    NotWanted,
    TooLong(Duration),
    TooLarge,
}

impl Stopped {
    /// What the program hears of it.
    pub(crate) fn error(self, what: &str) -> ApiError {
        let limit = match self {
            Stopped::NotWanted => return ApiError::Cancelled,
            Stopped::TooLong(limit) => format!("{} ms of processor time", limit.as_millis()),
            Stopped::TooLarge => format!("{} MiB of expressions", EXPRESSION_BYTES >> 20),
        };
        ApiError::LimitExceeded(format!(
            "{what} takes more than {limit}: make it of fewer alternatives, repeats, patterns or properties"
        ))
    }
}

/// Does work until it ends, is not wanted any more, has had so much processor time, or made more than
/// [`EXPRESSION_BYTES`].
pub(crate) fn stoppable<T>(
    limit: Duration,
    wanted: Wanted<'_>,
    work: impl FnOnce() -> T,
) -> Result<T, Stopped> {
    let (start, stopped) = (thread_time(), Cell::new(None));
    let goes_on = || {
        if !wanted() {
            stopped.set(Some(Stopped::NotWanted));
        } else if thread_time() - start > limit {
            stopped.set(Some(Stopped::TooLong(limit)));
        } else if made_bytes() > EXPRESSION_BYTES {
            stopped.set(Some(Stopped::TooLarge));
        }
        stopped.get().is_none()
    };
    let result = while_wanted(&goes_on, work);
    // The library makes an error of its own of what unwinds within it.
    match (stopped.get(), result) {
        (Some(stopped), _) => Err(stopped),
        (None, result) => Ok(result.expect("only `goes_on` stops it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llguidance::derivre::RegexBuilder;

    /// Makes an expression again and again until it is stopped.
    fn endless() {
        let mut builder = RegexBuilder::new();
        loop {
            builder.mk_regex("(ab|c)*d").unwrap();
        }
    }

    #[test]
    fn work_has_so_much_time() {
        let limit = Duration::from_millis(20);
        let stopped = stoppable(limit, &|| true, endless).unwrap_err();
        assert_eq!(stopped, Stopped::TooLong(limit));
        let said = stopped.error("the grammar").to_string();
        assert!(said.contains("the grammar takes more than 20 ms of processor time"), "{said}");
        assert_eq!(stoppable(limit, &|| false, endless).unwrap_err(), Stopped::NotWanted);
        // Neither binds what comes after.
        assert_eq!(stoppable(limit, &|| true, || 7), Ok(7));
    }

    #[test]
    fn work_makes_so_many_expressions() {
        let ever_new = || {
            let mut builder = RegexBuilder::new();
            for at in 0u64.. {
                builder.mk_regex(&format!("{at:0>1000}")).unwrap();
            }
        };
        // A limit of time that it would meet later, if it were not for the other.
        let stopped = stoppable(Duration::from_secs(600), &|| true, ever_new).unwrap_err();
        assert_eq!(stopped, Stopped::TooLarge);
        assert!(stopped.error("the grammar").to_string().contains("128 MiB of expressions"));
        assert_eq!(stoppable(LONG, &|| true, made_bytes), Ok(0), "each counts from nothing");
    }

    #[test]
    fn work_goes_on_to_be_asked_after_work_within_it() {
        let stopped = stoppable(Duration::from_millis(20), &|| true, || {
            let _ = stoppable(Duration::from_millis(5), &|| true, endless);
            endless();
        });
        assert!(stopped.is_err(), "the outer one is asked again once the inner one is done");
    }

    #[test]
    #[should_panic(expected = "another fault")]
    fn another_panic_goes_on() {
        let _ = stoppable(LONG, &|| true, || panic!("another fault"));
    }
}
