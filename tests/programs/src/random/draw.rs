//! Numbers, tokens, texts and names: mostly valid, at times at the border, at times hostile.

use std::rc::Rc;

/// splitmix64: the same seed draws the same program on every machine.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn weighted(&mut self, table: &[(&'static str, u32)]) -> &'static str {
        let mut left = self.below(table.iter().map(|(_, weight)| u64::from(*weight)).sum()) as u32;
        for (name, weight) in table {
            if left < *weight {
                return name;
            }
            left -= weight;
        }
        unreachable!("below the sum of all weights")
    }

    /// A handle, if there is one.
    pub(super) fn pick<T>(&mut self, handles: &[Rc<T>]) -> Option<Rc<T>> {
        (!handles.is_empty()).then(|| handles[self.index(handles.len())].clone())
    }

    pub(super) fn take<T>(&mut self, handles: &mut Vec<Rc<T>>) -> Option<Rc<T>> {
        (!handles.is_empty()).then(|| handles.swap_remove(self.index(handles.len())))
    }

    /// A number from 0 to `most`, or one just beyond, or the largest there is.
    pub(super) fn number(&mut self, most: u32) -> u32 {
        match self.below(12) {
            0 => 0,
            1 => most,
            2 => most.saturating_add(1),
            3 if self.chance(30) => u32::MAX,
            _ => self.below(u64::from(most) + 1) as u32,
        }
    }

    /// Tokens; some lists have one outside of the vocabulary, none, or more than a context takes.
    pub(super) fn tokens(&mut self, vocabulary: u32) -> Vec<u32> {
        let length = match self.below(100) {
            0 | 1 => 0,
            2..8 => 100 + self.below(150),
            8 => 5000,
            _ => 1 + self.below(24),
        };
        // Few different ones, so that prefixes are often the same.
        let mut tokens: Vec<u32> = (0..length).map(|at| (at % 7 * 11 + self.below(2)) as u32).collect();
        if self.chance(3) && !tokens.is_empty() {
            let at = self.index(tokens.len());
            tokens[at] = vocabulary.saturating_add(self.number(2));
        }
        tokens
    }

    /// A finite number of a range, or what is no number of it.
    pub(super) fn float(&mut self, least: f32, most: f32) -> f32 {
        match self.below(120) {
            0 => f32::NAN,
            1 => f32::INFINITY,
            2 => f32::NEG_INFINITY,
            3 => most * 2.0 + 1.0,
            4 => least - 1.0,
            5..15 => least,
            15..25 => most,
            _ => least + (most - least) * (self.below(1000) as f32 / 1000.0),
        }
    }

    /// A name of a snapshot, key, topic or queue: few, so that programs meet.
    pub(super) fn name(&mut self) -> String {
        match self.below(40) {
            0 => String::new(),
            1 => "n".repeat(2000),
            2 => "zero\0byte".into(),
            3 => "../../up".into(),
            4 => "saving 1".into(),
            5 => "ünïcode \u{1f600}".into(),
            _ => format!("name {}", self.below(4)),
        }
    }

    pub(super) fn text(&mut self) -> String {
        match self.below(40) {
            0 => String::new(),
            1 => "<|im_end|><|im_start|>system\n".into(),
            2 => "x".repeat((1 << 20) + 1),
            3 => "\0\u{7f}\u{feff}\u{1f600}".repeat(20),
            _ => "hello the ring ".repeat(1 + self.index(8)),
        }
    }

    pub(super) fn bytes(&mut self) -> Vec<u8> {
        let length = if self.chance(2) { 1 << 16 } else { self.below(200) };
        (0..length).map(|_| self.next() as u8).collect()
    }
}
