//! Stopping work in a grammar in its middle.
//!
//! How long the library takes for a grammar, or for a step in one, nobody knows beforehand: `a?` thirty thousand times is
//! a text of 64 KiB whose first step takes minutes, and gigabytes. So its copy in `third_party/derivre` asks, every few thousand
//! expressions made and numbers hashed, whether the work is still wanted, and unwinds if not.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use llguidance::derivre::interrupt::{made_bytes, while_wanted};
use model::Wanted;

use crate::account::{Account, Taken};
use crate::error::ApiError;
use crate::inferlet::thread_time;

/// Processor time of one piece of work on the threads for long work: a grammar that is compiled, a step in one.
pub(crate) const LONG: Duration = Duration::from_secs(5);
/// Processor time of a step on a thread that runs programs, which the steps before let expect a short one.
pub(crate) const SHORT: Duration = Duration::from_millis(250);

/// Bytes of the expressions that compiling a grammar makes, and that all steps in it make together: three times of what the
/// largest honest one that was found makes, and little enough that a fork, which copies them, takes some 20 ms.
const EXPRESSION_BYTES: u64 = 32 << 20;
/// Memory for expressions is taken in such pieces; less than one is nobody's.
const PIECE_BYTES: u64 = 1 << 20;

/// Expressions that a grammar made, and the host memory that is held for them.
#[derive(Default)]
pub(crate) struct Expressions {
    bytes: u64,
    held: Option<Taken>,
}

impl Expressions {
    /// As many once more, for a copy of the grammar.
    ///
    /// # Errors
    /// `limit-exceeded` when there is no memory for them.
    pub(crate) fn copy(&self, memory: &Arc<Account>) -> Result<Expressions, ApiError> {
        let held = self.held.as_ref().map(|held| memory.take(held.amount())).transpose()?;
        Ok(Expressions { bytes: self.bytes, held })
    }

    /// Notes that there are so many bytes now.
    fn grow_to(&mut self, bytes: u64, memory: &Arc<Account>) -> Result<(), Stopped> {
        self.bytes = bytes;
        if bytes > EXPRESSION_BYTES {
            return Err(Stopped::TooLarge);
        }
        let wanted = bytes / PIECE_BYTES * PIECE_BYTES;
        let more = wanted - self.held.as_ref().map_or(0, Taken::amount);
        if more > 0 {
            match &mut self.held {
                Some(held) => held.grow(more).map_err(Stopped::NoMemory)?,
                none => *none = Some(memory.take(more).map_err(Stopped::NoMemory)?),
            }
        }
        Ok(())
    }
}

/// Why work was stopped in its middle. What it was changing is not to be used again.
#[derive(Debug)]
pub(crate) enum Stopped {
    NotWanted,
    TooLong(Duration),
    TooLarge,
    NoMemory(ApiError),
}

impl Stopped {
    /// What the program hears of it.
    pub(crate) fn error(self, what: &str) -> ApiError {
        let limit = match self {
            Stopped::NotWanted => return ApiError::Cancelled,
            Stopped::NoMemory(error) => return error,
            Stopped::TooLong(limit) => format!("{} ms of processor time", limit.as_millis()),
            Stopped::TooLarge => format!("{} MiB of expressions", EXPRESSION_BYTES >> 20),
        };
        ApiError::LimitExceeded(format!(
            "{what} takes more than {limit}: make it of fewer alternatives, repeats, patterns or properties"
        ))
    }
}

/// Does work that makes expressions, until it ends, is not wanted any more, has had so much processor time, or there is no
/// memory for them.
pub(crate) fn stoppable<T>(
    limit: Duration,
    wanted: Wanted<'_>,
    memory: &Arc<Account>,
    expressions: &mut Expressions,
    work: impl FnOnce() -> T,
) -> Result<T, Stopped> {
    let (start, before) = (thread_time(), expressions.bytes);
    let asked = RefCell::new((expressions, Ok(())));
    let ask = || {
        let mut asked = asked.borrow_mut();
        let (expressions, going) = &mut *asked;
        if going.is_ok() {
            *going = if !wanted() {
                Err(Stopped::NotWanted)
            } else if thread_time() - start > limit {
                Err(Stopped::TooLong(limit))
            } else {
                expressions.grow_to(before + made_bytes() as u64, memory)
            };
        }
        going.is_ok()
    };
    // What was made since it was asked last counts too, but work that is done is wanted, however long it took.
    let result = while_wanted(&ask, || (work(), before + made_bytes() as u64));
    let (expressions, going) = asked.into_inner();
    // First, for the library makes an error of its own of what unwinds within it.
    going?;
    let (result, bytes) = result.expect("nothing else stops it");
    expressions.grow_to(bytes, memory)?;
    Ok(result)
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

    /// Work with an account of its own.
    fn alone<T>(limit: Duration, wanted: Wanted<'_>, work: impl FnOnce() -> T) -> Result<T, Stopped> {
        let memory = Account::root("the inferlet", "bytes of host memory", 1 << 30);
        stoppable(limit, wanted, &memory, &mut Expressions::default(), work)
    }

    /// Makes new expressions, a kilobyte each.
    fn ever_new(numbers: impl Iterator<Item = u64>) {
        let mut builder = RegexBuilder::new();
        for at in numbers {
            builder.mk_regex(&format!("{at:0>1000}")).unwrap();
        }
    }

    #[test]
    fn work_has_so_much_time() {
        let limit = Duration::from_millis(20);
        let stopped = alone(limit, &|| true, endless).unwrap_err();
        assert!(matches!(stopped, Stopped::TooLong(found) if found == limit), "{stopped:?}");
        let said = stopped.error("the grammar").to_string();
        assert!(said.contains("the grammar takes more than 20 ms of processor time"), "{said}");
        assert!(matches!(alone(limit, &|| false, endless), Err(Stopped::NotWanted)));
        // Neither binds what comes after.
        assert_eq!(alone(limit, &|| true, || 7).unwrap(), 7);
    }

    #[test]
    fn work_makes_so_many_expressions_and_they_are_paid_for() {
        // A limit of time that it would meet later, if it were not for the others.
        let long = Duration::from_secs(600);
        let stopped = alone(long, &|| true, || ever_new(0..)).unwrap_err();
        assert!(matches!(stopped, Stopped::TooLarge), "{stopped:?}");
        assert!(stopped.error("the grammar").to_string().contains("32 MiB of expressions"));

        // What is made in steps adds up, and so does what a copy takes.
        let memory = Account::root("the inferlet", "bytes of host memory", 32 << 20);
        let mut expressions = Expressions::default();
        let mut step = |count: u64| {
            stoppable(long, &|| true, &memory, &mut expressions, || ever_new(0..count)).map(drop)
        };
        step(1500).unwrap();
        let one = memory.taken();
        assert!(one > 2 << 20, "{one}");
        step(1500).unwrap();
        assert!(memory.taken() >= 2 * one - PIECE_BYTES, "{}", memory.taken());
        let copy = expressions.copy(&memory).unwrap();
        assert_eq!(memory.taken(), 2 * expressions.held.as_ref().unwrap().amount());
        let stopped = stoppable(long, &|| true, &memory, &mut expressions, || ever_new(0..)).unwrap_err();
        let said = stopped.error("the grammar").to_string();
        assert!(said.contains("bytes of host memory"), "{said}");
        drop((copy, expressions));
        assert_eq!(memory.taken(), 0);
    }

    #[test]
    fn work_goes_on_to_be_asked_after_work_within_it() {
        let stopped = alone(Duration::from_millis(20), &|| true, || {
            let _ = alone(Duration::from_millis(5), &|| true, endless);
            endless();
        });
        assert!(stopped.is_err(), "the outer one is asked again once the inner one is done");
    }

    #[test]
    #[should_panic(expected = "another fault")]
    fn another_panic_goes_on() {
        let _ = alone(LONG, &|| true, || panic!("another fault"));
    }
}
