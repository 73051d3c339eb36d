//! Speed of attention over pages, per width of a head, heads and rows, beside the limits of the machine: two products per
//! slot and number of a head.
//!
//! `cargo bench -p kernels --bench attention -- 'rows 1$'`. The context is 1024 tokens of one key-value head, which are
//! read again and again; but for the last cases, which decode many sequences whose pages lie all over memory.

#![allow(clippy::print_stdout, reason = "a benchmark reports to its user")]

mod shares;

use criterion::Throughput;
use kernels::attention::{Attention, Heads, SPAN_TOKENS_MAX, SPLIT_SPANS, page_len, span_pages, write_kv};
use kernels::{Isa, Tile, TileMut, f16};
use shares::{Shares, Work};

const PAGE_TOKENS: usize = 16;
const PAGES: usize = 64;

/// Numbers of a head, query heads of a key-value head, rows.
const CASES: [(usize, usize, usize); 10] = [
    (64, 3, 1),
    (64, 7, 1),
    (128, 4, 1),
    (64, 3, 8),
    (64, 3, 32),
    (64, 3, 128),
    (64, 1, 16),
    (128, 4, 8),
    (128, 4, 64),
    (128, 4, 128),
];

fn main() {
    let mut shares = Shares::from_arguments();
    for isa in Shares::isas() {
        for (head_dim, heads, rows) in CASES {
            let name = format!("head dim {head_dim} heads {heads} rows {rows}");
            let operations = Throughput::Elements(operations(head_dim, heads, rows) as u64);
            shares.case("attention", isa, &name, operations, || from_cache(isa, head_dim, heads, rows));
        }
        let bytes = Throughput::Bytes((THREADS * POOL_PAGES * page_len(64, PAGE_TOKENS) * 2) as u64);
        let name = format!("from memory, {THREADS} threads");
        shares.case_on(THREADS, "attention", isa, &name, bytes, || from_memory(isa));
    }
    shares.finish();
}

/// Operations of attention to [`PAGES`] pages.
fn operations(head_dim: usize, heads: usize, rows: usize) -> usize {
    4 * head_dim * heads * rows * PAGES * PAGE_TOKENS
}

fn from_cache(isa: Isa, head_dim: usize, heads: usize, rows: usize) -> (Work, impl FnMut()) {
    let mut pages = vec![vec![f16::ZERO; page_len(head_dim, PAGE_TOKENS)]; PAGES];
    for (i, page) in pages.iter_mut().enumerate() {
        for slot in 0..PAGE_TOKENS {
            let number = |j: usize| ((i * 31 + slot * 7 + j) % 13) as f32 / 13.0 - 0.5;
            let key: Vec<f32> = (0..head_dim).map(number).collect();
            write_kv(page, PAGE_TOKENS, slot, &key, &key);
        }
    }
    let bytes = PAGES * page_len(head_dim, PAGE_TOKENS) * size_of::<f16>();
    let work = Work { f32_ops: operations(head_dim, heads, rows), bytes, of_bytes: bytes, ..Work::default() };

    let width = heads * head_dim;
    let queries: Vec<f32> = (0..rows * width).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
    let masks = vec![u64::MAX; rows];
    let mut out = vec![0.0; rows * width];
    let mut attention = Attention::default();
    let run = move || {
        attention.start(rows, Heads { heads, head_dim, scale: 0.125, cap: None }, PAGE_TOKENS);
        for (index, pages) in pages.chunks(span_pages(PAGE_TOKENS)).enumerate() {
            if index > 0 && index.is_multiple_of(SPLIT_SPANS) {
                attention.end_split(isa);
            }
            let mut span = [pages[0].as_slice(); SPAN_TOKENS_MAX / PAGE_TOKENS];
            for (to, page) in span.iter_mut().zip(pages) {
                *to = page;
            }
            let queries = Tile::from_slice(&queries, width);
            attention.attend_span(isa, &queries, &masks, &span[..pages.len()], &[]);
        }
        attention.finish(isa, &mut TileMut::from_slice(&mut out, width));
        assert!(out[0].is_finite(), "attention of finite values is finite");
    };
    (work, run)
}

/// Threads that decode from memory, each from a pool of its own.
const THREADS: usize = 2;
/// Pages of a pool: 64 MiB.
const POOL_PAGES: usize = 16 << 10;

/// Decoding of many sequences whose pages lie all over memory larger than the caches, as they do in a pool.
fn from_memory(isa: Isa) -> (Work, impl FnMut()) {
    let (head_dim, heads, pages) = (64, 3, POOL_PAGES);
    let len = page_len(head_dim, PAGE_TOKENS);
    let pools: Vec<Vec<f16>> = (0..THREADS).map(|_| vec![f16::from_f32(0.25); pages * len]).collect();
    let queries: Vec<f32> = (0..heads * head_dim).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
    // Neighbours in a sequence are 90 rows of the pool apart: 30 layers of 3 key-value heads.
    let order: Vec<usize> = (0..90).flat_map(|first| (first..pages).step_by(90)).collect();
    let bytes = THREADS * pages * len * size_of::<f16>();
    let f32_ops = 4 * head_dim * heads * THREADS * pages * PAGE_TOKENS;
    let work = Work { f32_ops, bytes, of_bytes: bytes, ..Work::default() };
    let run = move || {
        std::thread::scope(|scope| {
            for pool in &pools {
                let (order, queries) = (&order, &queries);
                scope.spawn(move || {
                    decode(isa, Heads { heads, head_dim, scale: 0.125, cap: None }, pool, order, queries)
                });
            }
        });
    };
    (work, run)
}

/// One row of each sequence of 32 pages.
fn decode(isa: Isa, heads: Heads, pool: &[f16], order: &[usize], queries: &[f32]) {
    let len = page_len(heads.head_dim, PAGE_TOKENS);
    let mut attention = Attention::default();
    let mut out = vec![0.0; queries.len()];
    let page = |index: usize| &pool[order[index] * len..][..len];
    for first in (0..order.len()).step_by(32) {
        attention.start(1, heads, PAGE_TOKENS);
        for span in (first..first + 32).step_by(span_pages(PAGE_TOKENS)) {
            let end = span + span_pages(PAGE_TOKENS);
            if span == first + SPLIT_SPANS * span_pages(PAGE_TOKENS) {
                attention.end_split(isa);
            }
            let next: [&[f16]; 4] = std::array::from_fn(|i| page((end + i).min(first + 31)));
            let of_span: [&[f16]; 4] = std::array::from_fn(|i| page(span + i));
            attention.attend_span(
                isa,
                &Tile::from_slice(queries, queries.len()),
                &[u64::MAX],
                &of_span,
                &next,
            );
        }
        attention.finish(isa, &mut TileMut::from_slice(&mut out, queries.len()));
    }
    assert!(out.iter().all(|value| value.is_finite()), "attention of finite values is finite");
}
