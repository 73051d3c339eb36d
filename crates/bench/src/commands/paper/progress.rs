//! How far an experiment is: a bar with the time that is left where stderr is a terminal, else a line for each step.

use std::fmt::Display;
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The steps of an experiment: each a measurement that takes a while.
pub struct Steps {
    bar: ProgressBar,
    in_lines: bool,
}

impl Steps {
    /// So many steps.
    pub fn new(count: usize) -> Self {
        let shown = std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(count as u64), target);
        // The template is a constant, and one that was wrong would show the default.
        if let Ok(style) =
            ProgressStyle::with_template("  {elapsed} [{bar:30}] {pos}/{len}, {eta} left: {msg}")
        {
            bar.set_style(style);
        }
        // The first step may be the longest, such as the start of a server.
        bar.tick();
        Self { bar, in_lines: !shown }
    }

    /// One more is done: what it was, and what came out of it.
    pub fn done(&self, what: impl Display) {
        self.bar.inc(1);
        if self.in_lines {
            let count = self.bar.length().unwrap_or_default();
            eprintln!("  {}/{count} {what}", self.bar.position());
        } else {
            self.bar.set_message(what.to_string());
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_beyond_what_was_planned_too() {
        let steps = Steps::new(2);
        (0..3).for_each(|step| steps.done(step));
        assert_eq!((steps.bar.position(), steps.bar.length()), (3, Some(2)));
    }
}
