//! Makes a failing trace short: leaves out parts as long as what is left still fails.

/// At most so many runs, so that a slow failure is reported all the same.
const RUNS: u32 = 2000;

/// The shortest trace found that `fails`. Tries to leave out halves, then quarters, down to single operations.
pub(crate) fn shorten<T: Clone>(trace: &[T], fails: impl Fn(&[T]) -> bool) -> Vec<T> {
    let mut trace = trace.to_vec();
    let mut part = trace.len().div_ceil(2);
    let mut runs = 0;
    while part > 0 {
        let before = trace.len();
        let mut at = 0;
        while at < trace.len() && runs < RUNS {
            let mut less = trace.clone();
            less.drain(at..(at + part).min(trace.len()));
            runs += 1;
            if fails(&less) {
                trace = less;
            } else {
                at += part;
            }
        }
        // Single operations are tried again while that helps.
        if part > 1 || trace.len() == before || runs >= RUNS {
            part /= 2;
        }
    }
    trace
}

#[test]
fn a_failing_trace_is_shortened_to_what_makes_it_fail() {
    let trace: Vec<u32> = (0..400).collect();
    let position = |trace: &[u32], op| trace.iter().position(|found| *found == op);
    let fails = |trace: &[u32]| match (position(trace, 17), position(trace, 230), position(trace, 399)) {
        (Some(first), Some(second), Some(third)) => first < second && second < third,
        _ => false,
    };
    assert_eq!(shorten(&trace, fails), [17, 230, 399]);
    assert_eq!(shorten(&trace, |_| true), [] as [u32; 0]);
}
