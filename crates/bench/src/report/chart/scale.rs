//! A scale from zero to a round number, with its marks.

/// A scale of an axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scale {
    /// Its marks, from zero to its end.
    pub(super) marks: Vec<f64>,
    /// Digits behind the point that tell marks apart.
    digits: usize,
}

impl Scale {
    /// A scale that holds `highest`, with about six marks. Without a positive value it ends at one.
    pub(super) fn new(highest: f64) -> Self {
        let highest = if highest.is_finite() && highest > 0.0 { highest } else { 1.0 };
        let rough = highest / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power);
        let step = step.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(power * 10.0);
        let count = (highest / step * 0.9999).ceil() as usize;
        let digits = (0..12).find(|digits| {
            let scaled = step * 10f64.powi(*digits);
            (scaled - scaled.round()).abs() < 1e-6 * scaled
        });
        let marks = (0..=count).map(|mark| mark as f64 * step).collect();
        Self { marks, digits: digits.unwrap_or(12) as usize }
    }

    /// Where a value is, 0 to 1.
    pub(super) fn share(&self, value: f64) -> f64 {
        value / self.marks.last().copied().unwrap_or(1.0)
    }

    /// A mark as text.
    pub(super) fn text(&self, mark: f64) -> String {
        format!("{mark:.*}", self.digits)
    }
}
