use super::*;
use crate::f16;
use crate::testing::{seeded, values};

#[derive(Clone)]
struct Case {
    kv_type: KvType,
    heads: usize,
    head_dim: usize,
    cap: Option<f32>,
    page_tokens: usize,
    rows: usize,
    queries: Vec<f32>,
    pages: Vec<Vec<u16>>,
    /// Per page and row.
    masks: Vec<Vec<u64>>,
}

impl Case {
    fn new(
        kv_type: KvType,
        heads: usize,
        head_dim: usize,
        page_tokens: usize,
        rows: usize,
        pages: usize,
    ) -> Case {
        let mut rng = seeded((head_dim * page_tokens + rows) as u64);
        let queries = values(&mut rng, rows * heads * head_dim).iter().map(|x| x * 3.0).collect();
        let all = u64::MAX >> (64 - page_tokens);
        let mut case = Case {
            kv_type,
            heads,
            head_dim,
            cap: None,
            page_tokens,
            rows,
            queries,
            pages: vec![],
            masks: vec![],
        };
        for _ in 0..pages {
            let mut page = vec![f16::NAN.to_bits(); kv_type.page_len(head_dim, page_tokens)];
            let masks: Vec<u64> = (0..rows)
                .map(|_| match rng.u64(..) % 4 {
                    0 => 0,
                    1 => all,
                    _ => rng.u64(..) & all,
                })
                .collect();
            // Slots that no row attends to keep NaN, as unwritten memory may.
            let used = masks.iter().fold(0, |used, mask| used | mask);
            for slot in (0..page_tokens).filter(|slot| used >> slot & 1 == 1) {
                let [key, mut value] = [(); 2].map(|()| values(&mut rng, head_dim));
                // Of different sizes, as the first tokens of a text are.
                let size = [1.0, 0.01, 0.3][slot % 3];
                value.iter_mut().for_each(|x| *x *= size);
                kv_type.write(Isa::SCALAR, &mut page, page_tokens, slot, &key, &value);
            }
            case.pages.push(page);
            case.masks.push(masks);
        }
        case
    }

    /// Starts on the rows `rows`, computed together, and takes the pages of some splits in; `between` is done after each.
    fn attend_splits(
        &self,
        isa: Isa,
        rows: std::ops::Range<usize>,
        mut between: impl FnMut(&mut Attention, bool),
    ) -> Attention {
        let width = self.heads * self.head_dim;
        let queries = Tile::from_slice(&self.queries[rows.start * width..rows.end * width], width);
        let mut attention = Attention::default();
        let shape = Heads { heads: self.heads, head_dim: self.head_dim, scale: 0.125, cap: self.cap };
        attention.start(isa, self.kv_type, &queries, shape, self.page_tokens);
        let of_span = span_pages(self.page_tokens);
        let spans: Vec<_> = self.pages.chunks(of_span).zip(self.masks.chunks(of_span)).collect();
        for (index, split) in spans.chunks(SPLIT_SPANS).enumerate() {
            for (pages, masks) in split {
                let pages: Vec<&[u16]> = pages.iter().map(Vec::as_slice).collect();
                let bits = |row: usize| {
                    let shifted =
                        |(page, of_page): (usize, &Vec<u64>)| of_page[row] << (page * self.page_tokens);
                    masks.iter().enumerate().map(shifted).fold(0, |all, bits| all | bits)
                };
                let masks: Vec<u64> = rows.clone().map(bits).collect();
                // Whatever is asked for changes no bit.
                attention.attend_span(isa, &masks, &pages, if index == 0 { &pages } else { &[] });
            }
            between(&mut attention, (index + 1) * SPLIT_SPANS >= spans.len());
        }
        attention
    }

    /// The output of the rows `rows`, computed together.
    fn attend(&self, isa: Isa, rows: std::ops::Range<usize>) -> Vec<f32> {
        let width = self.heads * self.head_dim;
        let mut out = vec![0.0; rows.len() * width];
        let mut attention = self.attend_splits(isa, rows, |attention, is_last| {
            if !is_last {
                attention.end_split(isa);
            }
        });
        attention.finish(isa, &mut TileMut::from_slice(&mut out, width));
        out
    }

    /// The same, each split taken in alone.
    fn attend_apart(&self, isa: Isa) -> Vec<f32> {
        let (width, part) = (self.heads * self.head_dim, part_len(self.heads, self.head_dim));
        let mut splits = Vec::new();
        self.attend_splits(isa, 0..self.rows, |attention, _| {
            let mut parts = vec![f32::NAN; self.rows * part];
            attention.save_split(&mut TileMut::from_slice(&mut parts, part));
            splits.push(parts);
            let shape = Heads { heads: self.heads, head_dim: self.head_dim, scale: 0.125, cap: self.cap };
            let queries = Tile::from_slice(&self.queries, width);
            attention.start(isa, self.kv_type, &queries, shape, self.page_tokens);
        });
        let mut out = vec![0.0; self.rows * width];
        for (row, out) in out.chunks_exact_mut(width).enumerate() {
            let parts = splits.iter().map(|parts| &parts[row * part..][..part]);
            join_splits(isa, self.head_dim, parts, &mut Vec::new(), out);
        }
        out
    }

    /// Softmax over all attended slots at once, in f64, of what is in the pages.
    fn naive(&self, row: usize, head: usize) -> Vec<f64> {
        let query = &self.queries[(row * self.heads + head) * self.head_dim..][..self.head_dim];
        let query = Codes::of(self.kv_type).of_query(&rotated(query));
        let mut scored = Vec::new();
        for (page, masks) in self.pages.iter().zip(&self.masks) {
            for slot in (0..self.page_tokens).filter(|slot| masks[row] >> slot & 1 == 1) {
                let codes = Codes::of(self.kv_type);
                let (key, value) = codes.stored(page, self.head_dim, self.page_tokens, slot);
                let score = query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>() * 0.125;
                let score = self.cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh());
                scored.push((score.exp(), value));
            }
        }
        let sum: f64 = scored.iter().map(|(weight, _)| weight).sum();
        let mut out = vec![0.0; self.head_dim];
        for (weight, value) in scored {
            out.iter_mut().zip(value).for_each(|(out, value)| *out += weight / sum * value);
        }
        out
    }
}

/// A head times the Hadamard matrices of powers of two that make up its length: an entry is negative where the bits that
/// its row and column have in common are odd in number.
fn rotated(head: &[f32]) -> Vec<f32> {
    let mut out = Vec::new();
    while out.len() < head.len() {
        let part = &head[out.len()..];
        let part = &part[..1 << part.len().ilog2()];
        let entry = |row: usize, col: usize| if (row & col).count_ones() % 2 == 1 { -1.0 } else { 1.0 };
        let number =
            |row| part.iter().enumerate().map(|(col, x)| entry(row, col) * f64::from(*x)).sum::<f64>();
        out.extend((0..part.len()).map(|row| (number(row) / (part.len() as f64).sqrt()) as f32));
    }
    out
}

/// What the heads of the formats say of their codes.
struct Codes {
    /// Numbers of a block.
    block: usize,
    /// Codes of a word.
    per_word: usize,
    /// The largest ones.
    key: f64,
    query: f32,
    value: f64,
    weight: f64,
}

impl Codes {
    fn of(kv_type: KvType) -> Codes {
        match kv_type {
            KvType::I16 => {
                Codes { block: 128, per_word: 2, key: 4095.0, query: 4095.0, value: 2047.0, weight: 16383.0 }
            }
            KvType::Q8_0 => {
                Codes { block: 32, per_word: 4, key: 127.0, query: 127.0, value: 127.0, weight: 32767.0 }
            }
        }
    }

    /// A query, as its codes tell it.
    fn of_query(&self, numbers: &[f32]) -> Vec<f64> {
        let block = |numbers: &[f32]| {
            let largest = numbers.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            let scale = largest / self.query;
            let code = move |x: &f32| f64::from((x * (1.0 / scale)).round_ties_even());
            numbers.iter().map(code).map(|code| code * f64::from(scale)).collect::<Vec<_>>()
        };
        numbers.chunks(self.block).flat_map(block).collect()
    }

    /// The key and the value that a slot of a page holds, the key turned, read by the picture in the head of the formats.
    fn stored(&self, page: &[u16], head_dim: usize, page_tokens: usize, slot: usize) -> (Vec<f64>, Vec<f64>) {
        let (n, count) = (self.per_word, head_dim * page_tokens);
        let byte = |at: usize| page[at / 2].to_le_bytes()[at % 2];
        // A code, of all keys and then all values.
        let code = |at: usize| match n {
            2 => f64::from(page[at].cast_signed()),
            _ if at < count => f64::from(byte(at)) - 128.0,
            _ => f64::from(byte(at).cast_signed()),
        };
        let scale = |of_values: usize, d: usize| {
            let first = 4 * count / n + of_values * head_dim.div_ceil(self.block) * page_tokens;
            f16::from_bits(page[first + d / self.block * page_tokens + slot]).to_f64()
        };
        let key = |d: usize| scale(0, d) * code((d / n * page_tokens + slot) * n + d % n);
        let value = |d: usize| scale(1, d) * code(count + (slot / 2 * head_dim + d) * 2 + slot % 2);
        ((0..head_dim).map(key).collect(), (0..head_dim).map(value).collect())
    }
}

/// Five splits of the smallest pages, and the beginning of a sixth.
const PAGES: usize = 5 * SPLIT_SPANS * SPAN_PAGES_MAX + 3;

fn cases() -> impl Iterator<Item = Case> {
    KvType::ALL.into_iter().flat_map(cases_of)
}

fn cases_of(kv_type: KvType) -> Vec<Case> {
    let shapes = [
        (3, 64, 16, 1),
        (3, 64, 16, 5),
        (7, 64, 16, 4),
        (2, 48, 16, 3),
        (4, 128, 32, 2),
        (1, 16, 48, 6),
        (3, 80, 8, 2),
        (3, 96, 64, 3),
        (5, 128, 24, 2),
        (3, 256, 16, 1),
        (3, 8, 32, 4),
        (3, 72, 40, 1),
    ];
    let case =
        |(heads, head_dim, page_tokens, rows)| Case::new(kv_type, heads, head_dim, page_tokens, rows, PAGES);
    let capped = shapes[..6].iter().map(|&shape| Case { cap: Some(1.5), ..case(shape) });
    shapes.iter().map(|&shape| case(shape)).chain(capped).collect()
}

#[test]
fn attention_is_near_the_naive_one() {
    for case in cases() {
        let out = case.attend(Isa::detect(), 0..case.rows);
        // A weight is rounded to a part of the largest one; the errors of many lie on both sides.
        let bound = 1.0 / Codes::of(case.kv_type).weight;
        for (i, out) in out.chunks(case.head_dim).enumerate() {
            for (value, expected) in out.iter().zip(case.naive(i / case.heads, i % case.heads)) {
                let error = (f64::from(*value) - expected).abs();
                assert!(error < bound, "{:?}: {value} {expected}", case.kv_type);
            }
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    for case in cases() {
        let expected = case.attend(Isa::SCALAR, 0..case.rows);
        for isa in Isa::available() {
            assert_eq!(
                case.attend(isa, 0..case.rows),
                expected,
                "{isa} {} {} {}",
                case.heads,
                case.head_dim,
                case.page_tokens
            );
        }
    }
}

#[test]
fn a_row_does_not_depend_on_the_rows_beside_it() {
    for case in cases() {
        for isa in Isa::available() {
            let together = case.attend(isa, 0..case.rows);
            let apart: Vec<f32> = (0..case.rows).flat_map(|row| case.attend(isa, row..row + 1)).collect();
            assert_eq!(together, apart, "{isa}");
        }
    }
}

#[test]
fn pages_behind_a_row_change_nothing() {
    for case in cases() {
        for isa in Isa::available() {
            for pages in (1..case.pages.len()).step_by(7) {
                let mut behind = case.clone();
                behind.masks[pages..].iter_mut().for_each(|masks| masks.fill(0));
                let long = behind.attend(isa, 0..case.rows);
                behind.pages.truncate(pages);
                behind.masks.truncate(pages);
                assert_eq!(behind.attend(isa, 0..case.rows), long, "{isa} {pages} of {}", case.pages.len());
            }
        }
    }
}

#[test]
fn splits_taken_in_apart_are_joined_to_the_same_bits() {
    for mut case in cases() {
        // A row of which two splits have nothing, the first and one in the middle.
        let of_split = SPLIT_SPANS * span_pages(case.page_tokens);
        for split in [0, 2] {
            let masks = case.masks.iter_mut().skip(split * of_split).take(of_split);
            masks.for_each(|masks| masks[0] = 0);
        }
        for isa in Isa::available() {
            assert_eq!(case.attend_apart(isa), case.attend(isa, 0..case.rows), "{isa}");
        }
    }
}

#[test]
fn a_page_without_slots_changes_nothing() {
    for kv_type in KvType::ALL {
        let mut case = Case::new(kv_type, 3, 64, 16, 2, 3);
        let before = case.attend(Isa::detect(), 0..2);
        case.pages.push(vec![f16::NAN.to_bits(); kv_type.page_len(64, 16)]);
        case.masks.push(vec![0, 0]);
        assert_eq!(case.attend(Isa::detect(), 0..2), before);
        case.masks.iter_mut().for_each(|masks| masks.fill(0));
        assert!(case.attend(Isa::detect(), 0..2).iter().all(|&value| value == 0.0));
    }
}

#[test]
#[should_panic(expected = "for 16 slots")]
fn a_mask_beyond_the_pages_is_refused() {
    let mut case = Case::new(KvType::I16, 3, 64, 16, 1, 1);
    case.masks[0][0] = 1 << 16;
    case.attend(Isa::detect(), 0..1);
}

#[test]
#[should_panic(expected = "length of the pages")]
fn pages_of_another_format_are_refused() {
    let mut case = Case::new(KvType::I16, 3, 64, 16, 1, 1);
    case.kv_type = KvType::Q8_0;
    case.attend(Isa::detect(), 0..1);
}

/// What a row with these queries gets from a page of two tokens.
fn attend_to_two(isa: Isa, kv_type: KvType, tokens: [(&[f32], &[f32]); 2], query: f32) -> Vec<f32> {
    let (head_dim, page_tokens) = (tokens[0].0.len(), 8);
    let mut page = vec![0; kv_type.page_len(head_dim, page_tokens)];
    for (slot, (key, value)) in tokens.into_iter().enumerate() {
        kv_type.write(isa, &mut page, page_tokens, slot, key, value);
    }
    let queries = vec![query; head_dim];
    let heads = Heads { heads: 1, head_dim, scale: 1.0, cap: None };
    let mut attention = Attention::default();
    attention.start(isa, kv_type, &Tile::from_slice(&queries, head_dim), heads, page_tokens);
    attention.attend_span(isa, &[0b11], &[&page], &[]);
    let mut out = vec![0.0; head_dim];
    attention.finish(isa, &mut TileMut::from_slice(&mut out, head_dim));
    out
}

#[test]
fn keys_and_values_beyond_a_format_are_its_largest_number() {
    for kv_type in KvType::ALL {
        let largest = (65504.0 * Codes::of(kv_type).value) as f32;
        for isa in Isa::available() {
            let value = [-1e9, f32::NEG_INFINITY, f32::INFINITY, largest, 1.0, 0.0, 1e30, -largest];
            let key = [f32::INFINITY; 8];
            let out = attend_to_two(isa, kv_type, [(&[1.0; 8], &[2.0; 8]), (&key, &value)], 1e-3);
            // Its score is by far the largest, so its value is the result; with an infinite one it would be nothing.
            let expected = [-largest, -largest, largest, largest, 0.0, 0.0, largest, -largest];
            for (found, expected) in out.iter().zip(expected) {
                assert!((found - expected).abs() <= largest * 1e-6, "{kv_type:?} {isa}: {out:?}");
            }
        }
    }
}

/// Keys and a query that differ in sign alone have the largest codes once they are turned, and so do values of one size: no sum
/// is larger.
#[test]
fn the_largest_sums_fit() {
    let page_tokens = 16;
    for (kv_type, isa) in
        KvType::ALL.into_iter().flat_map(|t| Isa::available().into_iter().map(move |i| (t, i)))
    {
        for (head_dim, sign) in [(64, 1.0), (128, 1.0), (128, -1.0), (256, -1.0)] {
            // Its turned numbers are all of one size, as they are one row of the matrix.
            let mut key = vec![0.0; head_dim];
            key[1] = 8.0;
            let mut pages = vec![vec![0; kv_type.page_len(head_dim, page_tokens)]; 4];
            for slot in 0..64 {
                let (page, value) = (&mut pages[slot / page_tokens], vec![sign * 3.0; head_dim]);
                kv_type.write(isa, page, page_tokens, slot % page_tokens, &key, &value);
            }
            let pages: Vec<&[u16]> = pages.iter().map(Vec::as_slice).collect();
            let queries: Vec<f32> = key.iter().map(|x| x * sign).collect();
            let heads = Heads { heads: 1, head_dim, scale: 1.0, cap: None };
            let mut attention = Attention::default();
            attention.start(isa, kv_type, &Tile::from_slice(&queries, head_dim), heads, page_tokens);
            attention.attend_span(isa, &[u64::MAX], &pages, &[]);
            let mut part = vec![0.0; part_len(1, head_dim)];
            attention.save_split(&mut TileMut::from_slice(&mut part, head_dim + PART_EXTRA));
            let found = f64::from(part[head_dim + MAX]) / f64::from(LOG2_E);
            assert!((found - f64::from(sign) * 64.0).abs() < 0.1, "{kv_type:?} {isa} {head_dim}: {found}");
            let mut out = vec![0.0; head_dim];
            attention.finish(isa, &mut TileMut::from_slice(&mut out, head_dim));
            assert!(
                out.iter().all(|x| (x - sign * 3.0).abs() < 1e-2),
                "{kv_type:?} {isa} {head_dim}: {out:?}"
            );
        }
    }
}

/// A value that nobody weighs may be of any size.
#[test]
fn a_large_value_without_weight_leaves_the_others_theirs() {
    for kv_type in KvType::ALL {
        for size in [100.0, 1e4, 1e6] {
            let mut key = [0.0; 8];
            let other = key;
            key[0] = 60.0;
            let tokens = [(&key[..], &[1.0; 8][..]), (&other[..], &[size; 8][..])];
            let out = attend_to_two(Isa::detect(), kv_type, tokens, 1.0);
            assert!(out.iter().all(|x| (x - 1.0).abs() < 1e-3), "{kv_type:?} {size}: {out:?}");
        }
    }
}

/// A first token that takes nearly all of the weight, as models have it, leaves the others theirs, also those of later spans.
#[test]
fn many_small_weights_beside_a_large_one_count() {
    let (head_dim, page_tokens, tokens) = (64, 16, 4096);
    for kv_type in KvType::ALL {
        let mut pages = vec![vec![0; kv_type.page_len(head_dim, page_tokens)]; tokens / page_tokens];
        for token in 0..tokens {
            let page = &mut pages[token / page_tokens];
            let (key, value) = if token == 0 { (10.0, -1.0) } else { (0.0, 1.0) };
            let mut of_head = [vec![0.0; head_dim], vec![value; head_dim]];
            of_head[0][0] = key;
            kv_type.write(Isa::detect(), page, page_tokens, token % page_tokens, &of_head[0], &of_head[1]);
        }
        let mut queries = vec![0.0; head_dim];
        queries[0] = 1.0;
        let heads = Heads { heads: 1, head_dim, scale: 1.0, cap: None };
        let mut attention = Attention::default();
        let queries = Tile::from_slice(&queries, head_dim);
        attention.start(Isa::detect(), kv_type, &queries, heads, page_tokens);
        for (span, pages) in pages.chunks(4).enumerate() {
            if span > 0 && span % SPLIT_SPANS == 0 {
                attention.end_split(Isa::detect());
            }
            let pages: Vec<&[u16]> = pages.iter().map(Vec::as_slice).collect();
            attention.attend_span(Isa::detect(), &[u64::MAX], &pages, &[]);
        }
        let mut out = vec![0.0; head_dim];
        attention.finish(Isa::detect(), &mut TileMut::from_slice(&mut out, head_dim));
        // e^10 of the first beside 1 of each of 4095.
        let expected = (4095.0 - 10f64.exp()) / (4095.0 + 10f64.exp());
        // The key of the first is known to a part of 127 in q8_0.
        let bound = if kv_type == KvType::I16 { 2e-3 } else { 2e-2 };
        assert!((f64::from(out[5]) - expected).abs() < bound, "{kv_type:?}: {} {expected}", out[5]);
    }
}

#[test]
fn what_is_not_a_number_stays_so() {
    for (kv_type, isa) in
        KvType::ALL.into_iter().flat_map(|t| Isa::available().into_iter().map(move |i| (t, i)))
    {
        let (one, mut with_nan) = ([1.0; 8], [1.0; 8]);
        with_nan[3] = f32::NAN;
        let out = attend_to_two(isa, kv_type, [(&one, &one), (&one, &with_nan)], 1.0);
        assert!(out[3].is_nan(), "{kv_type:?} {isa}: {out:?}");
    }
}

#[test]
fn slots_hold_their_numbers_within_half_a_step_in_the_same_bits() {
    for kv_type in KvType::ALL {
        slots_hold_their_numbers(kv_type);
    }
}

fn slots_hold_their_numbers(kv_type: KvType) {
    let (page_tokens, codes) = (16, Codes::of(kv_type));
    let mut rng = seeded(7);
    for head_dim in [8, 32, 64, 72, 80, 256] {
        let mut pages = vec![vec![0; kv_type.page_len(head_dim, page_tokens)]; Isa::available().len()];
        // Even and odd slots, each last once: a pair of slots shares words.
        for slot in (0..page_tokens).chain([0, 5]) {
            let size = 10f32.powi(slot as i32 % 9 - 4);
            let [key, value] = [(); 2].map(|()| {
                let mut numbers = values(&mut rng, head_dim);
                numbers.iter_mut().for_each(|x| *x *= size);
                numbers
            });
            let before = pages[0].clone();
            for (isa, page) in Isa::available().into_iter().zip(&mut pages) {
                kv_type.write(isa, page, page_tokens, slot, &key, &value);
            }
            let found = codes.stored(&pages[0], head_dim, page_tokens, slot);
            let beside = slot ^ 1;
            assert_eq!(
                codes.stored(&before, head_dim, page_tokens, beside),
                codes.stored(&pages[0], head_dim, page_tokens, beside)
            );
            for (numbers, found, largest_code) in
                [(rotated(&key), found.0, codes.key), (value, found.1, codes.value)]
            {
                for (numbers, found) in numbers.chunks(codes.block).zip(found.chunks(codes.block)) {
                    let largest = f64::from(numbers.iter().fold(0f32, |largest, x| largest.max(x.abs())));
                    // A scale is rounded up to f16, of small ones to the least.
                    let step = largest / largest_code * (1.0 + 2f64.powi(-10)) + 2f64.powi(-24);
                    let is_near = |(x, found): (&f32, &f64)| (f64::from(*x) - found).abs() <= step * 0.50001;
                    assert!(numbers.iter().zip(found).all(is_near), "{kv_type:?} {head_dim} {slot}");
                }
            }
        }
        assert!(pages.iter().all(|page| *page == pages[0]), "{head_dim}");
    }
}

/// Without turning, a step is 100 / 127 for all numbers of the block.
#[test]
fn one_large_number_of_a_key_leaves_the_others_their_precision() {
    let (head_dim, page_tokens) = (64, 8);
    let mut key = values(&mut seeded(11), head_dim);
    key[5] = 100.0;
    let mut page = vec![0; KvType::Q8_0.page_len(head_dim, page_tokens)];
    KvType::Q8_0.write(Isa::detect(), &mut page, page_tokens, 0, &key, &vec![0.0; head_dim]);
    let turned: Vec<f32> =
        Codes::of(KvType::Q8_0).stored(&page, head_dim, page_tokens, 0).0.iter().map(|x| *x as f32).collect();
    // The matrix is its own inverse.
    let errors = rotated(&turned).iter().zip(&key).map(|(found, x)| (found - x).powi(2)).sum::<f32>();
    let (rms, step) = ((errors / head_dim as f32).sqrt(), 100.0 / 127.0);
    assert!(rms < step / 12f32.sqrt() / 4.0, "{rms} of {step}");
}

#[test]
fn a_page_takes_258_bytes_for_128_numbers_or_34_for_32() {
    for (head_dim, page_tokens) in [(128, 16), (256, 8), (128, 64)] {
        let bytes = |kv_type: KvType| 2 * kv_type.page_len(head_dim, page_tokens);
        assert_eq!(bytes(KvType::I16), 2 * head_dim * page_tokens * 258 / 128);
        assert_eq!(bytes(KvType::Q8_0), 2 * head_dim * page_tokens * 34 / 32);
    }
}
