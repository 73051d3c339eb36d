//! The list of requests with their moments.

use std::collections::HashMap;

use fastrand::Rng;

use super::{Arrival, ArrivalError, Limit};
use crate::clock::Nanos;
use crate::dataset::Sample;

/// A request of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedRequest {
    /// Which sample is sent: an index of `Plan::samples`.
    pub sample: usize,
    /// When, from the start of the run; `None` when a user is free.
    pub at: Option<Nanos>,
    /// The request that must have ended before: the turn before of the same session. Smaller than its own index.
    pub after: Option<usize>,
    /// Pause after that request, or after the user's last answer.
    pub think: Nanos,
}

/// What a run does, and when.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is sent.
    pub samples: Vec<Sample>,
    /// The requests, in the order of their moments.
    pub requests: Vec<PlannedRequest>,
    /// Bounds on what is under way.
    pub limit: Limit,
    /// Users of a closed loop: how many requests without a moment are under way.
    pub users: usize,
    /// Requests a second that the schedule asks for, where it has such a number.
    pub offered_rate: Option<f64>,
    /// What the schedule is, in words.
    pub about: String,
    /// When the run is over although requests are left; they are cancelled or skipped. `None` for never.
    pub stop_at: Option<Nanos>,
}

impl Plan {
    /// One request for each sample, at the moments of `arrival`. Sessions arrive as their first turn; the turns after
    /// it follow when the one before is answered.
    ///
    /// `duration` leaves out what would be later.
    ///
    /// # Errors
    /// [`ArrivalError`] when the schedule has a value out of its range or needs moments that the samples lack.
    pub fn new(
        samples: Vec<Sample>,
        arrival: &Arrival,
        duration: Option<Nanos>,
        limit: Limit,
        seed: u64,
    ) -> Result<Self, ArrivalError> {
        arrival.check(&samples)?;
        let mut rng = Rng::with_seed(seed);
        let firsts: Vec<usize> = (0..samples.len()).filter(|&index| samples[index].turn == 0).collect();
        let users = arrival.users().unwrap_or(0);
        let mut moments = arrival.moments(&samples, &firsts, &mut rng).into_iter();
        let mut requests = Vec::with_capacity(samples.len());
        let mut last_of_session: HashMap<u32, Option<usize>> = HashMap::new();
        for (index, sample) in samples.iter().enumerate() {
            let before = sample.session.and_then(|session| last_of_session.get(&session).copied());
            let mut request = PlannedRequest { sample: index, at: None, after: None, think: sample.think };
            if sample.turn > 0 && before == Some(None) {
                // Its session is later than the run.
                continue;
            } else if let (true, Some(Some(before))) = (sample.turn > 0, before) {
                // 1. A later turn: the trace's moment, if it has one, and the turn before.
                request.at = Some(arrival.scaled(sample.at).unwrap_or(Nanos(0)));
                request.after = Some(before);
            } else if users > 0 {
                // 2. A user takes it up when free.
                request.think = arrival.think(&mut rng);
            } else {
                // 3. A moment of the schedule, or none when the schedule has ended.
                let moment = moments.next().filter(|at| duration.is_none_or(|end| *at <= end));
                let Some(at) = moment else {
                    if let Some(session) = sample.session {
                        last_of_session.insert(session, None);
                    }
                    continue;
                };
                request.at = Some(at);
            }
            if let Some(session) = sample.session {
                last_of_session.insert(session, Some(requests.len()));
            }
            requests.push(request);
        }
        Ok(Self {
            samples,
            requests,
            limit,
            users,
            offered_rate: arrival.rate(),
            about: arrival.to_string(),
            stop_at: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Prompt;

    fn sample(session: Option<u32>, turn: u32) -> Sample {
        let mut sample = Sample::new(Prompt::Text("x".into()), 1, 1);
        (sample.session, sample.turn) = (session, turn);
        sample
    }

    #[test]
    fn turns_follow_the_turn_before_of_their_session() {
        let samples = vec![sample(Some(0), 0), sample(Some(0), 1), sample(Some(1), 0), sample(Some(1), 1)];
        let arrival = "constant:10".parse().unwrap();
        let plan = Plan::new(samples, &arrival, None, Limit::NONE, 1).unwrap();
        assert_eq!(plan.requests.iter().map(|r| r.after).collect::<Vec<_>>(), [None, Some(0), None, Some(2)]);
        let firsts = plan.requests.iter().filter(|request| request.after.is_none());
        let moments: Vec<Nanos> = firsts.filter_map(|request| request.at).collect();
        assert_eq!(moments, [Nanos(0), Nanos(100_000_000)]);
    }

    #[test]
    fn a_session_that_begins_too_late_is_left_out_whole() {
        let samples = vec![sample(Some(0), 0), sample(Some(1), 0), sample(Some(1), 1)];
        let arrival = "constant:1".parse().unwrap();
        let plan = Plan::new(samples, &arrival, Some(Nanos::from_secs(0.5)), Limit::NONE, 1).unwrap();
        assert_eq!(plan.requests.len(), 1);
    }
}
