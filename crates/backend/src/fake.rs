//! A backend without weights that honours every shape and limit, for tests of the layers above.
//!
//! Each slot stores a digest of (token, position, digests of all slots attended to). A row's logits are a function
//! of its digest alone, so a wrong page, mask, position or order anywhere gives other tokens, as in a real model,
//! and a run in any batching gives the same. A row of an encoder is a function of all rows of its sequence instead.

use crate::{
    AdapterId, Backend, BackendError, Batch, Limits, LoraMatrix, Output, OutputKind, PageCopy, PageId,
    Sampled, SamplingParams, TokenLogProb, Value,
};

/// A fault to raise in `FakeBackend::run`, for tests of error paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FakeFault {
    /// Every batch works.
    None,
    /// The batch with this number (from 0) fails.
    FailBatch(u64),
}

/// See the module docs.
pub struct FakeBackend {
    limits: Limits,
    slots: Vec<u64>,
    batches: u64,
    rows: u64,
    fault: FakeFault,
    before_batch: Box<dyn FnMut(u64) + Send>,
}

impl FakeBackend {
    /// A pool of `pages` pages of 16 tokens, batches of up to 512 rows and 256 sequences.
    pub fn new(pages: u32, vocabulary: u32) -> FakeBackend {
        let limits = Limits {
            pages,
            page_tokens: 16,
            batch_tokens: 512,
            batch_sequences: 256,
            row_outputs: 256,
            batch_outputs: 4096,
            batch_output_values: 1 << 24,
            vocabulary,
            hidden: 8,
            context_tokens: 1 << 20,
            encoder: false,
            page_bytes: 16 * 8,
        };
        FakeBackend::with_limits(limits)
    }

    /// A fake with limits of one's own; `page_bytes` is set to what it stores.
    pub fn with_limits(mut limits: Limits) -> FakeBackend {
        limits.page_bytes = limits.page_tokens as usize * 8;
        let slots = vec![0; (limits.pages * limits.page_tokens) as usize];
        FakeBackend {
            limits,
            slots,
            batches: 0,
            rows: 0,
            fault: FakeFault::None,
            before_batch: Box::new(|_| ()),
        }
    }

    /// Raises `fault` when its time comes.
    #[must_use]
    pub fn with_fault(mut self, fault: FakeFault) -> FakeBackend {
        self.fault = fault;
        self
    }

    /// Each batch takes at least this long (the thread sleeps), for tests that kill in mid-forward.
    #[must_use]
    pub fn with_step(self, step: std::time::Duration) -> FakeBackend {
        self.before_batch(move |_| std::thread::sleep(step))
    }

    /// Calls `hook` with the number of each batch (from 0) before it is computed, for tests that hold one up.
    #[must_use]
    pub fn before_batch(mut self, hook: impl FnMut(u64) + Send + 'static) -> FakeBackend {
        self.before_batch = Box::new(hook);
        self
    }

    /// Batches run so far.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// Rows computed so far: what a prefix cache saves does not count.
    pub fn rows_computed(&self) -> u64 {
        self.rows
    }

    fn digest(&self, batch: &Batch, sequence: usize, row: usize) -> u64 {
        let span = &batch.sequences[sequence];
        let page_tokens = self.limits.page_tokens;
        let mask = batch.masks.iter().find(|m| m.row == row);
        let mut digest = match batch.embeddings.iter().find(|e| e.row == row) {
            Some(embedding) => row_digest(&embedding.values),
            None => row_digest(&self.embedding(batch.tokens[row])),
        };
        digest = mix(digest ^ u64::from(batch.positions[row]));
        digest = mix(digest ^ span.adapter.map_or(0, |a| u64::from(a.0) + 1));
        for (index, page) in batch.pages[span.pages.clone()].iter().enumerate() {
            for slot in 0..page_tokens {
                let place = index as u32 * page_tokens + slot;
                let written = !self.limits.encoder && batch.slots[span.rows.start..row].contains(&place);
                let default = page.live >> slot & 1 == 1 || written;
                let attended =
                    mask.map_or(default, |m| m.attend[index] >> slot & 1 == 1 && place != batch.slots[row]);
                if attended {
                    digest =
                        mix(digest.rotate_left(5) ^ self.slots[(page.page.0 * page_tokens + slot) as usize]);
                }
            }
        }
        digest
    }

    /// Makes each row of a sequence depend on all of them, in order, as attention in both directions does.
    fn join_rows(digests: &mut [u64]) {
        let all = digests.iter().fold(mix(11), |all, digest| mix(all.rotate_left(5) ^ digest));
        digests.iter_mut().for_each(|digest| *digest = mix(*digest ^ all));
    }

    fn embedding(&self, token: u32) -> Vec<f32> {
        (0..self.limits.hidden).map(|i| (mix(u64::from(token) << 8 | u64::from(i)) >> 40) as f32).collect()
    }

    fn logits(&self, digest: u64) -> Vec<f32> {
        (0..self.limits.vocabulary).map(|t| (mix(digest ^ u64::from(t)) >> 40) as f32 / 2e6).collect()
    }

    fn value(&self, digest: u64, position: u32, kind: &OutputKind) -> Value {
        let logits = self.logits(digest);
        let log_sum = log_sum_exp(&logits);
        match kind {
            OutputKind::Token(params) => match draw(&logits, params, position) {
                Some(token) => Value::Token(Sampled { token, log_prob: logits[token as usize] - log_sum }),
                None => Value::NoTokenAllowed,
            },
            OutputKind::TopK(k) => {
                let mut order: Vec<u32> = (0..logits.len() as u32).collect();
                order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
                order.truncate(*k as usize);
                let with_log_prob =
                    |token: u32| TokenLogProb { token, log_prob: logits[token as usize] - log_sum };
                Value::TopK(order.into_iter().map(with_log_prob).collect())
            }
            OutputKind::LogProbs(tokens) => {
                Value::LogProbs(tokens.iter().map(|t| logits[*t as usize] - log_sum).collect())
            }
            OutputKind::Logits => Value::Logits(logits),
            OutputKind::Entropy => {
                Value::Entropy(logits.iter().map(|l| (log_sum - l) * (l - log_sum).exp()).sum())
            }
            OutputKind::Hidden => Value::Hidden(
                (0..self.limits.hidden).map(|i| (mix(digest ^ u64::from(i)) >> 40) as f32).collect(),
            ),
        }
    }
}

/// A token and its embedding row give the same.
fn row_digest(values: &[f32]) -> u64 {
    values.iter().fold(mix(7), |digest, value| mix(digest ^ u64::from(value.to_bits())))
}

/// Greedy for temperature 0, else one uniform draw over the allowed tokens: enough to test seeds and masks.
fn draw(logits: &[f32], params: &SamplingParams, position: u32) -> Option<u32> {
    let mut logits = logits.to_vec();
    for (token, bias) in &params.logit_bias {
        logits[*token as usize] += bias;
    }
    for (token, count) in params.penalized().into_iter().flat_map(|counts| counts.iter()) {
        logits[token as usize] = params.penalize(logits[token as usize], count);
    }
    let allowed = |t: u32| {
        logits[t as usize] > f32::NEG_INFINITY
            && params.allowed.as_ref().is_none_or(|a| a[t as usize / 32] >> (t % 32) & 1 == 1)
    };
    let tokens: Vec<u32> = (0..logits.len() as u32).filter(|t| allowed(*t)).collect();
    if params.temperature > 0.0 && !tokens.is_empty() {
        let pick = mix(params.seed ^ u64::from(position).rotate_left(32)) % tokens.len() as u64;
        return Some(tokens[pick as usize]);
    }
    tokens.into_iter().max_by(|a, b| logits[*a as usize].total_cmp(&logits[*b as usize]).then(b.cmp(a)))
}

fn log_sum_exp(logits: &[f32]) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    max + logits.iter().map(|l| (l - max).exp()).sum::<f32>().ln()
}

/// The finalizer of splitmix64.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Backend for FakeBackend {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn run(&mut self, batch: &Batch, output: &mut Output) -> Result<(), BackendError> {
        batch.check(&self.limits).map_err(BackendError::InvalidBatch)?;
        output.values.clear();
        let number = self.batches;
        (self.before_batch)(number);
        self.batches += 1;
        if self.fault == FakeFault::FailBatch(number) {
            return Err(BackendError::Failed(format!("fault injected in batch {number}")));
        }
        self.rows += batch.rows() as u64;
        let mut digests = vec![0; batch.rows()];
        for (index, sequence) in batch.sequences.iter().enumerate() {
            for row in sequence.rows.clone() {
                digests[row] = self.digest(batch, index, row);
                let slot = batch.slots[row];
                let page = batch.pages[sequence.pages.start + (slot / self.limits.page_tokens) as usize].page;
                self.slots[(page.0 * self.limits.page_tokens + slot % self.limits.page_tokens) as usize] =
                    digests[row];
            }
            if self.limits.encoder {
                FakeBackend::join_rows(&mut digests[sequence.rows.clone()]);
            }
        }
        for request in &batch.outputs {
            output.values.push(self.value(digests[request.row], batch.positions[request.row], &request.kind));
        }
        Ok(())
    }

    fn copy_pages(&mut self, copies: &[PageCopy]) -> Result<(), BackendError> {
        let size = self.limits.page_tokens as usize;
        for copy in copies {
            if copy.from.0.max(copy.to.0) >= self.limits.pages {
                return Err(BackendError::InvalidBatch(format!("copy {copy:?} is outside the pool")));
            }
            let from = copy.from.0 as usize * size;
            self.slots.copy_within(from..from + size, copy.to.0 as usize * size);
        }
        Ok(())
    }

    fn read_page(&mut self, page: PageId, bytes: &mut Vec<u8>) -> Result<(), BackendError> {
        let size = self.limits.page_tokens as usize;
        let slots = self.slots.chunks(size).nth(page.0 as usize);
        let slots = slots
            .ok_or_else(|| BackendError::InvalidBatch(format!("page {} is outside the pool", page.0)))?;
        bytes.extend(slots.iter().flat_map(|s| s.to_le_bytes()));
        Ok(())
    }

    fn write_page(&mut self, page: PageId, bytes: &[u8]) -> Result<(), BackendError> {
        let size = self.limits.page_tokens as usize;
        let slots = self.slots.chunks_mut(size).nth(page.0 as usize);
        let Some(slots) = slots.filter(|_| bytes.len() == size * 8) else {
            return Err(BackendError::InvalidBatch(format!(
                "page {} cannot take {} bytes",
                page.0,
                bytes.len()
            )));
        };
        for (slot, chunk) in slots.iter_mut().zip(bytes.chunks_exact(8)) {
            *slot = u64::from_le_bytes(chunk.try_into().expect("chunks of 8"));
        }
        Ok(())
    }

    fn embed(&mut self, tokens: &[u32], rows: &mut Vec<f32>) -> Result<(), BackendError> {
        for &token in tokens {
            if token >= self.limits.vocabulary {
                return Err(BackendError::InvalidBatch(format!("token {token} is outside the vocabulary")));
            }
            rows.extend(self.embedding(token));
        }
        Ok(())
    }

    fn load_adapter(&mut self, _id: AdapterId, _matrices: Vec<LoraMatrix>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unload_adapter(&mut self, _id: AdapterId) {}
}
