//! What can happen, as data: a trace of operations can be printed, run again and shortened.
//!
//! An operation names what it acts on by number among those that exist when it is run, so that it means something also
//! after operations before it were left out. One that finds nothing to act on does nothing.

use backend::{AdapterId, OutputKind, SamplingParams};
use fastrand::Rng;
use scheduler::{ContextId, ForwardRequest, Priority, RowRuns, Ticket};

/// One among those that exist, counted round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nth(pub(crate) u32);

impl Nth {
    pub(crate) fn of<T: Copy>(self, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[self.0 as usize % all.len()])
    }
}

/// Two bounds of a range, in any order, counted round the length.
pub(crate) type Bounds = (u32, u32);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Time goes by.
    Wait {
        us: u32,
    },
    /// One turn of the engine's loop. If it runs a batch, `meanwhile` comes in while it runs; it may fail.
    Turn {
        us: u32,
        meanwhile: Option<Box<Op>>,
        fails: bool,
    },
    /// A new context, of a new owner while there are few; in place of one, when there are many.
    Create {
        owner: Nth,
    },
    /// A pass on an idle context, see [`request`].
    Forward {
        context: Nth,
        seed: u64,
    },
    Fork {
        from: Nth,
    },
    Slice {
        from: Nth,
        bounds: Bounds,
    },
    Truncate {
        context: Nth,
        length: u32,
    },
    Remove {
        context: Nth,
        bounds: Bounds,
    },
    Append {
        to: Nth,
        from: Nth,
    },
    Drop {
        context: Nth,
    },
    Cancel {
        pass: Nth,
    },
    SetPriority {
        context: Nth,
        priority: Priority,
    },
    Save {
        context: Nth,
        name: u32,
    },
    Open {
        name: u32,
        owner: Nth,
    },
    Delete {
        name: u32,
    },
    /// Out and in again under another name, which is then kept or not.
    Export {
        name: u32,
        keep: bool,
    },
    /// What a defect above would send.
    Nonsense {
        context: Nth,
    },
    OwnerGone {
        owner: Nth,
    },
}

/// How often an operation is drawn in a thousand, before a seed changes that; and how it is drawn.
type Kind = (u32, fn(&mut Rng) -> Op);

const KINDS: [Kind; 18] = [
    (264, |r| Op::Forward { context: nth(r), seed: r.u64(..1 << 32) }),
    (400, |r| Op::Turn { us: r.u32(100..1000), meanwhile: None, fails: false }),
    (66, |r| Op::Create { owner: nth(r) }),
    (50, |r| Op::Wait { us: r.u32(..8000) }),
    (33, |r| Op::Fork { from: nth(r) }),
    (22, |r| Op::Slice { from: nth(r), bounds: bounds(r) }),
    (27, |r| Op::Truncate { context: nth(r), length: r.u32(..1000) }),
    (27, |r| Op::Remove { context: nth(r), bounds: bounds(r) }),
    (17, |r| Op::Append { to: nth(r), from: nth(r) }),
    (22, |r| Op::Drop { context: nth(r) }),
    (17, |r| Op::Cancel { pass: nth(r) }),
    (11, |r| Op::SetPriority {
        context: nth(r),
        priority: [Priority::Low, Priority::Normal, Priority::High][r.usize(..3)],
    }),
    (7, |r| Op::Save { context: nth(r), name: r.u32(..5) }),
    (7, |r| Op::Open { name: r.u32(..5), owner: nth(r) }),
    (7, |r| Op::Delete { name: r.u32(..5) }),
    (7, |r| Op::Export { name: r.u32(..5), keep: percent(r, 30) }),
    (11, |r| Op::Nonsense { context: nth(r) }),
    (5, |r| Op::OwnerGone { owner: nth(r) }),
];

/// The first of them happen with every seed: without them there is nothing to see.
const ALWAYS: usize = 3;

fn nth(random: &mut Rng) -> Nth {
    Nth(random.u32(..100))
}

fn bounds(random: &mut Rng) -> Bounds {
    (random.u32(..1000), random.u32(..1000))
}

pub(crate) fn percent(random: &mut Rng, share: u32) -> bool {
    random.u32(..100) < share
}

/// Operations in random order. Each seed has weights of its own: some operations never come, some four times as often,
/// so that one seed sees a long history of few kinds, and another all of them mixed.
pub(crate) fn trace(seed: u64, operations: usize, fault_percent: u32) -> Vec<Op> {
    // Streams of neighbouring seeds of this generator are alike: spread them.
    let mut random = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut weights = KINDS.map(|(weight, _)| weight);
    for (index, weight) in weights.iter_mut().enumerate() {
        let factors: &[u32] = if index < ALWAYS { &[1, 1, 2] } else { &[0, 1, 1, 2, 4] };
        *weight *= factors[random.usize(..factors.len())];
    }
    (0..operations)
        .map(|_| match draw(&mut random, &weights) {
            Op::Turn { us, .. } => Op::Turn {
                us,
                meanwhile: percent(&mut random, 30).then(|| Box::new(draw(&mut random, &weights))),
                fails: percent(&mut random, fault_percent),
            },
            op => op,
        })
        .collect()
}

fn draw(random: &mut Rng, weights: &[u32; KINDS.len()]) -> Op {
    let mut left = random.u32(..weights.iter().sum::<u32>());
    let drawn = KINDS.iter().zip(weights).find(|(_, weight)| {
        let found = left < **weight;
        left = left.saturating_sub(**weight);
        found
    });
    let ((_, make), _) = drawn.expect("a number below the sum of the weights");
    make(random)
}

/// The pass of a seed: often a start that other passes have too, often one row, sometimes anything.
pub(crate) fn request(
    seed: u64,
    ticket: Ticket,
    context: ContextId,
    length: u32,
    next: u32,
) -> ForwardRequest {
    let random = &mut Rng::with_seed(seed);
    let rows = if percent(random, 60) { random.u32(1..4) } else { random.u32(1..41) };
    let family = random.u32(..3);
    let common = random.u32(..rows + 8);
    let token = |random: &mut Rng, i: u32| match i < common {
        true => (family * 7 + (length + i) * 3) % 40,
        false => random.u32(..40),
    };
    let tokens = (0..rows).map(|i| token(random, i)).collect();
    let mut request = ForwardRequest::new(ticket, context, tokens);
    request.keep_kv = percent(random, 85);
    if percent(random, 10) {
        request.adapter = Some(AdapterId(random.u32(..2)));
    }
    if percent(random, 10) {
        request.positions = Some((0..rows).map(|i| next + i + random.u32(..3)).collect());
    }
    if percent(random, 15) {
        request.masks = Some((0..rows).map(|_| runs(random, length + rows)).collect());
    }
    if percent(random, 8) {
        let row = random.usize(..rows as usize);
        request.embeddings = vec![(row, (0..8).map(|i| (i * random.u32(..5)) as f32).collect())];
    }
    for _ in 0..random.u32(1..4) {
        let row = if percent(random, 70) { rows - 1 } else { random.u32(..rows) };
        request.outputs.push((row as usize, kind(random)));
    }
    request
}

/// The pass as an encoder takes it: a whole text of at most so many rows.
pub(crate) fn of_encoder(mut request: ForwardRequest, rows_max: usize) -> ForwardRequest {
    request.tokens.truncate(rows_max);
    let rows = request.tokens.len();
    request.embeddings.retain(|(row, _)| *row < rows);
    request.positions = request.positions.map(|positions| positions[..rows].to_vec());
    request.masks = None;
    request.keep_kv = false;
    request.outputs = request.outputs.iter().map(|(row, _)| (*row % rows, OutputKind::Hidden)).collect();
    request
}

fn runs(random: &mut Rng, tokens: u32) -> RowRuns {
    RowRuns((0..random.u32(..5)).map(|_| random.u32(..tokens)).collect())
}

fn kind(random: &mut Rng) -> OutputKind {
    match random.u32(..6) {
        0 => OutputKind::TopK(random.u32(1..5)),
        1 => OutputKind::LogProbs(vec![random.u32(..40), random.u32(..40)]),
        2 => OutputKind::Entropy,
        3 => OutputKind::Hidden,
        4 => {
            let seed = random.u64(..1000);
            OutputKind::Token(SamplingParams { temperature: 1.0, seed, ..SamplingParams::greedy() })
        }
        _ => OutputKind::Token(SamplingParams::greedy()),
    }
}
