//! What must come out: every context a plain list of tokens, every pass a batch of its own.

use backend::{
    Backend, Batch, EmbeddingRow, FakeBackend, Limits, Output, OutputRequest, PageId, PageSlots, RowMask,
    SequenceSpan, Value,
};
use scheduler::ForwardRequest;

/// A live token: what the fake backend stores for it, and its position.
pub(crate) type Slot = ([u8; 8], u32);

#[derive(Clone, Default)]
pub(crate) struct Plain {
    pub(crate) slots: Vec<Slot>,
    pub(crate) next: u32,
}

pub(crate) struct Expected {
    pub(crate) values: Vec<Value>,
    pub(crate) after: Plain,
}

pub(crate) struct Reference(FakeBackend);

const PAGE: usize = 8;

impl Reference {
    pub(crate) fn new(limits: Limits) -> Reference {
        let roomy = Limits {
            pages: 4096,
            page_tokens: PAGE as u32,
            batch_tokens: 4096,
            batch_outputs: 4096,
            ..limits
        };
        Reference(FakeBackend::with_limits(roomy))
    }

    /// Runs one pass alone on a copy of the context's tokens.
    pub(crate) fn forward(&mut self, before: &Plain, request: &ForwardRequest) -> Expected {
        let (old, rows) = (before.slots.len(), request.tokens.len());
        let pages = (old + rows).div_ceil(PAGE);
        let mut bytes: Vec<u8> = before.slots.iter().flat_map(|slot| slot.0).collect();
        bytes.resize(pages * PAGE * 8, 0);
        for (page, bytes) in bytes.chunks(PAGE * 8).enumerate() {
            self.0.write_page(PageId(page as u32), bytes).unwrap();
        }
        let live = |page: usize| (0..PAGE).filter(|i| page * PAGE + i < old).map(|i| 1u64 << i).sum();
        let continued = |i: usize| before.next + i as u32;
        let positions: Vec<u32> =
            request.positions.clone().unwrap_or_else(|| (0..rows).map(continued).collect());
        let mut order: Vec<usize> = (0..request.outputs.len()).collect();
        order.sort_by_key(|index| request.outputs[*index].0);
        let batch = Batch {
            sequences: vec![SequenceSpan { pages: 0..pages, rows: 0..rows, adapter: request.adapter }],
            pages: (0..pages).map(|p| PageSlots { page: PageId(p as u32), live: live(p) }).collect(),
            tokens: request.tokens.clone(),
            positions: positions.clone(),
            slots: (0..rows).map(|row| (old + row) as u32).collect(),
            embeddings: request
                .embeddings
                .iter()
                .map(|(row, values)| EmbeddingRow { row: *row, values: values.to_vec() })
                .collect(),
            masks: request
                .masks
                .iter()
                .flatten()
                .enumerate()
                .map(|(r, m)| mask(r, &m.0, old, pages))
                .collect(),
            outputs: order
                .iter()
                .map(|index| OutputRequest {
                    row: request.outputs[*index].0,
                    kind: request.outputs[*index].1.clone(),
                })
                .collect(),
        };
        let mut output = Output::default();
        self.0.run(&batch, &mut output).unwrap();
        let mut values: Vec<(usize, Value)> = order.into_iter().zip(output.values).collect();
        values.sort_by_key(|(index, _)| *index);
        let mut after = before.clone();
        if request.keep_kv {
            let mut bytes = Vec::new();
            (0..pages).for_each(|page| self.0.read_page(PageId(page as u32), &mut bytes).unwrap());
            let slot = |row: usize| {
                let at = (old + row) * 8;
                (bytes[at..at + 8].try_into().unwrap(), positions[row])
            };
            after.slots.extend((0..rows).map(slot));
            after.next = match &request.positions {
                Some(positions) => before.next.max(positions.iter().max().unwrap() + 1),
                None => before.next + rows as u32,
            };
        }
        Expected { values: values.into_iter().map(|(_, value)| value).collect(), after }
    }
}

/// Written as the rule reads, token by token: runs alternate, the first is not attended to, the rest is.
fn mask(row: usize, runs: &[u32], old: usize, pages: usize) -> RowMask {
    let mut attend = vec![0; pages];
    let (mut run, mut used) = (0, 0);
    for token in 0..=old + row {
        while run < runs.len() && used == runs[run] {
            (run, used) = (run + 1, 0);
        }
        used += 1;
        if run % 2 == 1 || run == runs.len() || token == old + row {
            attend[token / PAGE] |= 1 << (token % PAGE);
        }
    }
    RowMask { row, attend }
}
