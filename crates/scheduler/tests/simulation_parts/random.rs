//! splitmix64, and random passes.

use backend::{AdapterId, OutputKind, SamplingParams};
use scheduler::{ContextId, ForwardRequest, RowRuns, Ticket};

pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % u64::from(bound.max(1))) as u32
    }

    pub(crate) fn percent(&mut self, share: u32) -> bool {
        self.below(100) < share
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        if of.is_empty() { None } else { Some(of[self.below(of.len() as u32) as usize]) }
    }

    /// A pass: often a start that other passes have too, often one row, sometimes anything.
    pub(crate) fn request(
        &mut self,
        ticket: Ticket,
        context: ContextId,
        length: u32,
        next: u32,
    ) -> ForwardRequest {
        let rows = if self.percent(60) { 1 + self.below(3) } else { 1 + self.below(40) };
        let family = self.below(3);
        let common = self.below(rows + 8);
        let token = |r: &mut Random, i: u32| {
            if i < common { (family * 7 + (length + i) * 3) % 40 } else { r.below(40) }
        };
        let tokens = (0..rows).map(|i| token(self, i)).collect();
        let mut request = ForwardRequest::new(ticket, context, tokens);
        request.keep_kv = self.percent(85);
        if self.percent(10) {
            request.adapter = Some(AdapterId(self.below(2)));
        }
        if self.percent(10) {
            request.positions = Some((0..rows).map(|i| next + i + self.below(3)).collect());
        }
        if self.percent(15) {
            request.masks = Some((0..rows).map(|_| self.runs(length + rows)).collect());
        }
        if self.percent(8) {
            let row = self.below(rows) as usize;
            request.embeddings = vec![(row, (0..8).map(|i| (i * self.below(5)) as f32).collect())];
        }
        for _ in 0..1 + self.below(3) {
            let row = if self.percent(70) { rows - 1 } else { self.below(rows) };
            request.outputs.push((row as usize, self.kind()));
        }
        request
    }

    fn runs(&mut self, tokens: u32) -> RowRuns {
        RowRuns((0..self.below(5)).map(|_| self.below(tokens)).collect())
    }

    fn kind(&mut self) -> OutputKind {
        match self.below(6) {
            0 => OutputKind::TopK(1 + self.below(4)),
            1 => OutputKind::LogProbs(vec![self.below(40), self.below(40)]),
            2 => OutputKind::Entropy,
            3 => OutputKind::Hidden,
            4 => {
                let seed = u64::from(self.below(1000));
                OutputKind::Token(SamplingParams { temperature: 1.0, seed, ..SamplingParams::greedy() })
            }
            _ => OutputKind::Token(SamplingParams::greedy()),
        }
    }
}
