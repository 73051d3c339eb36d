use super::*;
use crate::dataset::Prompt;

fn moments(text: &str, count: usize) -> Vec<f64> {
    let arrival: Arrival = text.parse().unwrap();
    let mut sample = Sample::new(Prompt::Text("x".into()), 1, 1);
    let samples: Vec<Sample> = (0..count)
        .map(|index| {
            sample.at = Some(Nanos::from_secs(index as f64 * 0.5));
            sample.clone()
        })
        .collect();
    let firsts: Vec<usize> = (0..count).collect();
    let made = arrival.moments(&samples, &firsts, &mut Rng::with_seed(3));
    made.into_iter().map(Nanos::secs).collect()
}

/// An example of each schedule with about 10 requests a second.
const EXAMPLES: [&str; 11] = [
    "constant:10",
    "poisson:10",
    "gamma:10,burstiness=0.3",
    "uniform:10",
    "instant:20,secs=2",
    "ramp:10,to=10,secs=5",
    "sine:10,swing=5,period=7",
    "steps:10x100,10x1000",
    "series:1,10x2000",
    "mmpp:5,busy=20,calm_secs=2,busy_secs=1",
    "trace:5",
];

#[test]
fn every_schedule_has_its_rate_and_repeats_from_its_seed() {
    for spec in &TABLE {
        let shown = EXAMPLES.iter().any(|text| text.split(':').next() == Some(spec.name));
        assert!(shown || spec.name == "closed", "`{}` has no example", spec.name);
    }
    for text in EXAMPLES {
        let made = moments(text, 5000);
        assert_eq!(made.len(), 5000, "{text}");
        assert!(made.windows(2).all(|pair| pair[0] <= pair[1]), "{text} goes back");
        let rate = made.len() as f64 / made[made.len() - 1];
        // The variance of bursty ones is the largest: 5000 arrivals give them 5 %.
        assert!((rate - 10.0).abs() < 1.0, "{text} has a rate of {rate}");
        assert_eq!(made, moments(text, 5000), "{text} does not repeat");
    }
}

#[test]
fn bursty_gaps_vary_as_said() {
    let variation = |text| {
        let made = moments(text, 20_000);
        let gaps: Vec<f64> = made.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        variance.sqrt() / mean
    };
    assert!((variation("poisson:10") - 1.0).abs() < 0.05);
    // A gamma's coefficient of variation is 1 / sqrt(shape).
    assert!((variation("gamma:10,burstiness=0.25") - 2.0).abs() < 0.15);
    assert!((variation("uniform:10") - 1.0 / 3f64.sqrt()).abs() < 0.02);
    assert!(variation("mmpp:1,busy=30,calm_secs=5,busy_secs=5") > 1.5);
}

#[test]
fn a_ramp_rises_and_steps_end() {
    let made = moments("ramp:1,to=21,secs=100", 1100);
    let before = |end: f64| made.iter().filter(|at| **at < end).count() as f64;
    // The integral of 1 + 0.2 t.
    assert!((before(50.0) - 300.0).abs() < 60.0, "{}", before(50.0));
    assert!((before(100.0) - 1100.0).abs() < 120.0, "{}", before(100.0));
    let made = moments("steps:10x1,0x5,10x1", 1000);
    assert!(made.len() < 60 && made.iter().all(|at| *at < 1.0 || (6.0..7.0).contains(at)));
}

#[test]
fn wrong_texts_are_refused_with_what_was_found() {
    let refused = |text: &str| text.parse::<Arrival>().unwrap_err().to_string();
    assert!(refused("sometimes:3").contains("`sometimes` is no schedule; there are constant:RATE"));
    assert!(refused("poisson:-1").contains("rate is -1, expected a number from"));
    assert!(refused("poisson").contains("rate is missing"));
    assert!(refused("gamma:1,bursts=2").contains("bursts is 2, expected the form gamma:RATE"));
    assert!(refused("poisson:nan").contains("nan"));
}
