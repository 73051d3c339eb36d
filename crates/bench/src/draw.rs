//! Random numbers by distribution, from a seed.

use fastrand::Rng;

/// In (0, 1]: safe below a logarithm.
fn unit(rng: &mut Rng) -> f64 {
    1.0 - rng.f64()
}

/// Exponential with this mean.
pub fn exponential(rng: &mut Rng, mean: f64) -> f64 {
    -unit(rng).ln() * mean
}

/// Normal, by the method of Box and Muller.
pub fn normal(rng: &mut Rng, mean: f64, deviation: f64) -> f64 {
    let radius = (-2.0 * unit(rng).ln()).sqrt();
    mean + deviation * radius * (std::f64::consts::TAU * rng.f64()).cos()
}

/// Normal within bounds, by drawing again; after 1000 draws outside, the mean moved to the nearer bound.
pub fn truncated_normal(rng: &mut Rng, mean: f64, deviation: f64, low: f64, high: f64) -> f64 {
    let mut draws = (0..1000).map(|_| normal(rng, mean, deviation));
    draws.find(|value| (low..=high).contains(value)).unwrap_or_else(|| mean.max(low).min(high))
}

/// Gamma, by the method of Marsaglia and Tsang. `shape` and `scale` are above zero.
pub fn gamma(rng: &mut Rng, shape: f64, scale: f64) -> f64 {
    if shape < 1.0 {
        // Their boost: a draw of `shape + 1` times a power of a uniform one.
        return gamma(rng, shape + 1.0, scale) * unit(rng).powf(1.0 / shape);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng, 0.0, 1.0);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && unit(rng).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v * scale;
        }
    }
}

/// Log-normal, with mean and deviation of the logarithm.
pub fn log_normal(rng: &mut Rng, mu: f64, sigma: f64) -> f64 {
    normal(rng, mu, sigma).exp()
}

/// Pareto as a factor at least 1: the share above `x` is `x^-alpha`.
pub fn pareto(rng: &mut Rng, alpha: f64) -> f64 {
    unit(rng).powf(-1.0 / alpha)
}

/// Zipf on 1, 2, ...: `k` with a weight of `k^-exponent`, by rejection after Devroye. `exponent` is above 1.
pub fn zipf(rng: &mut Rng, exponent: f64) -> u64 {
    let b = 2f64.powf(exponent - 1.0);
    loop {
        let x = unit(rng).powf(-1.0 / (exponent - 1.0)).floor();
        let t = (1.0 + 1.0 / x).powf(exponent - 1.0);
        if x < 1e18 && rng.f64() * x * (t - 1.0) / (b - 1.0) <= t / b {
            return x as u64;
        }
    }
}

/// Poisson with this mean: for small ones by counting arrivals, for large ones by the rounded normal.
pub fn poisson(rng: &mut Rng, mean: f64) -> u64 {
    if mean > 500.0 {
        return normal(rng, mean, mean.sqrt()).round().max(0.0) as u64;
    }
    let (mut count, mut at) = (0, exponential(rng, 1.0));
    while at < mean {
        count += 1;
        at += exponential(rng, 1.0);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of many draws.
    fn moments(mut draw: impl FnMut(&mut Rng) -> f64) -> (f64, f64) {
        let mut rng = Rng::with_seed(7);
        let values: Vec<f64> = (0..200_000).map(|_| draw(&mut rng)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64)
    }

    fn near(found: (f64, f64), expected: (f64, f64)) {
        let close = |a: f64, b: f64| (a - b).abs() <= 0.03 * b.abs().max(0.05);
        assert!(close(found.0, expected.0) && close(found.1, expected.1), "{found:?} is not {expected:?}");
    }

    #[test]
    fn draws_have_the_moments_of_their_distribution() {
        near(moments(|rng| exponential(rng, 3.0)), (3.0, 9.0));
        near(moments(|rng| normal(rng, 5.0, 2.0)), (5.0, 4.0));
        near(moments(|rng| gamma(rng, 0.5, 2.0)), (1.0, 2.0));
        near(moments(|rng| gamma(rng, 4.0, 0.5)), (2.0, 1.0));
        near(moments(|rng| poisson(rng, 4.0) as f64), (4.0, 4.0));
        near(moments(|rng| pareto(rng, 6.0)), (1.2, 0.06));
        // The share of ones is 1 / zeta(2).
        near(moments(|rng| f64::from(u8::from(zipf(rng, 2.0) == 1))), (0.607_93, 0.238_35));
    }
}
