//! Speed of attention over pages, per format of the pages, width of a head, heads and rows, beside the limits of the
//! machine: two products per slot and number of a head, of 16-bit integers, that with keys of 8-bit ones where pages hold those.
//!
//! `cargo bench -p kernels --bench attention -- 'i16 .* rows 1$'`. The context is 1024 tokens of one key-value head, which are
//! read again and again; but for the last cases, which decode many sequences whose pages lie all over memory.

#![allow(clippy::print_stdout, reason = "a benchmark reports to its user")]

mod shares;

use criterion::Throughput;
use kernels::attention::{Attention, Heads, KvType, SPLIT_SPANS, span_pages};
use kernels::{Isa, Shared, Tile, TileMut};
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
            for kv_type in KvType::ALL {
                let name = format!("{} head dim {head_dim} heads {heads} rows {rows}", kv_type.name());
                let operations = Throughput::Elements(2 * product_operations(head_dim, heads, rows) as u64);
                let prepare = || from_cache(isa, kv_type, head_dim, heads, rows);
                shares.case("attention", isa, &name, operations, prepare);
            }
        }
        for kv_type in KvType::ALL {
            let words = THREADS * POOL_PAGES * kv_type.page_len(64, PAGE_TOKENS);
            let name = format!("{} from memory, {THREADS} threads", kv_type.name());
            let bytes = Throughput::Bytes(2 * words as u64);
            shares.case_on(THREADS, "attention", isa, &name, bytes, || from_memory(isa, kv_type));
        }
    }
    shares.finish();
}

/// Operations of one of the two products with [`PAGES`] pages.
fn product_operations(head_dim: usize, heads: usize, rows: usize) -> usize {
    2 * head_dim * heads * rows * PAGES * PAGE_TOKENS
}

/// What both products with keys and values of `bytes` bytes are, of `operations` each.
fn work(kv_type: KvType, operations: usize, bytes: usize) -> Work {
    let (int16_ops, int8_ops) = match kv_type {
        KvType::I16 => (2 * operations, 0),
        KvType::Q8_0 => (operations, operations),
    };
    Work { int16_ops, int8_ops, f32_ops: 0, bytes, of_bytes: bytes }
}

/// Pages of one key-value head.
fn pool(isa: Isa, kv_type: KvType, head_dim: usize, pages: usize) -> Shared<u16> {
    let len = kv_type.page_len(head_dim, PAGE_TOKENS);
    let mut pool = Shared::new(pages, len);
    for (i, page) in pool.get_mut().chunks_exact_mut(len).enumerate() {
        for slot in 0..PAGE_TOKENS {
            let number = |j: usize| ((i * 31 + slot * 7 + j) % 13) as f32 / 13.0 - 0.5;
            let key: Vec<f32> = (0..head_dim).map(number).collect();
            kv_type.write(isa, page, PAGE_TOKENS, slot, &key, &key);
        }
    }
    pool
}

fn from_cache(isa: Isa, kv_type: KvType, head_dim: usize, heads: usize, rows: usize) -> (Work, impl FnMut()) {
    let mut pool = pool(isa, kv_type, head_dim, PAGES);
    let bytes = 2 * PAGES * kv_type.page_len(head_dim, PAGE_TOKENS);
    let work = work(kv_type, product_operations(head_dim, heads, rows), bytes);

    let width = heads * head_dim;
    let queries: Vec<f32> = (0..rows * width).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
    let masks = vec![u64::MAX; rows];
    let mut out = vec![0.0; rows * width];
    let mut attention = Attention::default();
    let run = move || {
        let queries = Tile::from_slice(&queries, width);
        let heads = Heads { heads, head_dim, scale: 0.125, cap: None };
        attention.start(isa, kv_type, &queries, heads, PAGE_TOKENS);
        let pages: Vec<&[u16]> =
            pool.get_mut().chunks_exact(kv_type.page_len(heads.head_dim, PAGE_TOKENS)).collect();
        for (index, pages) in pages.chunks(span_pages(PAGE_TOKENS)).enumerate() {
            if index > 0 && index.is_multiple_of(SPLIT_SPANS) {
                attention.end_split(isa);
            }
            attention.attend_span(isa, &masks, pages, &[]);
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
fn from_memory(isa: Isa, kv_type: KvType) -> (Work, impl FnMut()) {
    let (head_dim, heads, pages) = (64, 3, POOL_PAGES);
    let mut pools: Vec<_> = (0..THREADS).map(|_| pool(isa, kv_type, head_dim, pages)).collect();
    let queries: Vec<f32> = (0..heads * head_dim).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
    // Neighbours in a sequence are 90 rows of the pool apart: 30 layers of 3 key-value heads.
    let order: Vec<usize> = (0..90).flat_map(|first| (first..pages).step_by(90)).collect();
    let bytes = pools.iter().map(|pool| 2 * pool.rows() * pool.cols()).sum();
    let work = work(kv_type, 2 * head_dim * heads * THREADS * pages * PAGE_TOKENS, bytes);
    let run = move || {
        std::thread::scope(|scope| {
            for pool in &mut pools {
                let (pool, order, queries) = (pool.get_mut(), &order, &queries);
                scope.spawn(move || {
                    let heads = Heads { heads, head_dim, scale: 0.125, cap: None };
                    decode(isa, kv_type, heads, pool, order, queries);
                });
            }
        });
    };
    (work, run)
}

/// One row of each sequence of 32 pages.
fn decode(isa: Isa, kv_type: KvType, heads: Heads, pool: &[u16], order: &[usize], queries: &[f32]) {
    let len = kv_type.page_len(heads.head_dim, PAGE_TOKENS);
    let queries = Tile::from_slice(queries, queries.len());
    let mut attention = Attention::default();
    let mut out = vec![0.0; queries.cols().len()];
    let page = |index: usize| &pool[order[index] * len..][..len];
    for first in (0..order.len()).step_by(32) {
        attention.start(isa, kv_type, &queries, heads, PAGE_TOKENS);
        for span in (first..first + 32).step_by(span_pages(PAGE_TOKENS)) {
            let end = span + span_pages(PAGE_TOKENS);
            if span == first + SPLIT_SPANS * span_pages(PAGE_TOKENS) {
                attention.end_split(isa);
            }
            let next: [&[u16]; 4] = std::array::from_fn(|i| page((end + i).min(order.len() - 1)));
            let of_span: [&[u16]; 4] = std::array::from_fn(|i| page(span + i));
            attention.attend_span(isa, &[u64::MAX], &of_span, &next);
        }
        attention.finish(isa, &mut TileMut::from_slice(&mut out, queries.cols().len()));
    }
    assert!(out.iter().all(|value| value.is_finite()), "attention of finite values is finite");
}
