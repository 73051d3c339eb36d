use super::*;
use crate::testing::{seeded, values};

#[derive(Clone)]
struct Case {
    heads: usize,
    head_dim: usize,
    cap: Option<f32>,
    page_tokens: usize,
    rows: usize,
    queries: Vec<f32>,
    pages: Vec<Vec<f16>>,
    /// Per page and row.
    masks: Vec<Vec<u64>>,
}

impl Case {
    fn new(heads: usize, head_dim: usize, page_tokens: usize, rows: usize, pages: usize) -> Case {
        let mut rng = seeded((head_dim * page_tokens + rows) as u64);
        let queries = values(&mut rng, rows * heads * head_dim).iter().map(|x| x * 3.0).collect();
        let all = u64::MAX >> (64 - page_tokens);
        let mut case =
            Case { heads, head_dim, cap: None, page_tokens, rows, queries, pages: vec![], masks: vec![] };
        for _ in 0..pages {
            let mut page = vec![f16::NAN; page_len(head_dim, page_tokens)];
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
                write_kv(
                    &mut page,
                    page_tokens,
                    slot,
                    &values(&mut rng, head_dim),
                    &values(&mut rng, head_dim),
                );
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
        attention.start(rows.len(), shape, self.page_tokens);
        let of_span = span_pages(self.page_tokens);
        let spans: Vec<_> = self.pages.chunks(of_span).zip(self.masks.chunks(of_span)).collect();
        for (index, split) in spans.chunks(SPLIT_SPANS).enumerate() {
            for (pages, masks) in split {
                let pages: Vec<&[f16]> = pages.iter().map(Vec::as_slice).collect();
                let bits = |row: usize| {
                    let shifted =
                        |(page, of_page): (usize, &Vec<u64>)| of_page[row] << (page * self.page_tokens);
                    masks.iter().enumerate().map(shifted).fold(0, |all, bits| all | bits)
                };
                let masks: Vec<u64> = rows.clone().map(bits).collect();
                attention.attend_span(isa, &queries, &masks, &pages, &[]);
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
            attention.start(self.rows, shape, self.page_tokens);
        });
        let mut out = vec![0.0; self.rows * width];
        for (row, out) in out.chunks_exact_mut(width).enumerate() {
            let parts = splits.iter().map(|parts| &parts[row * part..][..part]);
            join_splits(isa, self.head_dim, parts, &mut Vec::new(), out);
        }
        out
    }

    /// Softmax over all attended slots at once, in f64.
    fn naive(&self, row: usize, head: usize) -> Vec<f64> {
        let query = &self.queries[(row * self.heads + head) * self.head_dim..][..self.head_dim];
        let mut scored = Vec::new();
        for (page, masks) in self.pages.iter().zip(&self.masks) {
            let (keys, values) = page.split_at(self.head_dim * self.page_tokens);
            for slot in (0..self.page_tokens).filter(|slot| masks[row] >> slot & 1 == 1) {
                let key = keys.iter().skip(slot).step_by(self.page_tokens);
                let score =
                    query.iter().zip(key).map(|(q, k)| f64::from(*q) * k.to_f64()).sum::<f64>() * 0.125;
                let score = self.cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh());
                scored.push((score.exp(), &values[slot * self.head_dim..][..self.head_dim]));
            }
        }
        let sum: f64 = scored.iter().map(|(weight, _)| weight).sum();
        let mut out = vec![0.0; self.head_dim];
        for (weight, values) in scored {
            for (out, value) in out.iter_mut().zip(values) {
                *out += weight / sum * value.to_f64();
            }
        }
        out
    }
}

/// Five splits of the smallest pages, and the beginning of a sixth.
const PAGES: usize = 5 * SPLIT_SPANS * SPAN_PAGES_MAX + 3;

fn cases() -> Vec<Case> {
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
    let case = |(heads, head_dim, page_tokens, rows)| Case::new(heads, head_dim, page_tokens, rows, PAGES);
    let capped = shapes[..6].iter().map(|&shape| Case { cap: Some(1.5), ..case(shape) });
    shapes.iter().map(|&shape| case(shape)).chain(capped).collect()
}

#[test]
fn attention_is_near_the_naive_one() {
    for case in cases() {
        let out = case.attend(Isa::detect(), 0..case.rows);
        for (i, out) in out.chunks(case.head_dim).enumerate() {
            for (value, expected) in out.iter().zip(case.naive(i / case.heads, i % case.heads)) {
                assert!((f64::from(*value) - expected).abs() < 2e-6, "{value} {expected}");
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
    let mut case = Case::new(3, 64, 16, 2, 3);
    let before = case.attend(Isa::detect(), 0..2);
    case.pages.push(vec![f16::NAN; page_len(64, 16)]);
    case.masks.push(vec![0, 0]);
    assert_eq!(case.attend(Isa::detect(), 0..2), before);
    case.masks.iter_mut().for_each(|masks| masks.fill(0));
    assert!(case.attend(Isa::detect(), 0..2).iter().all(|&value| value == 0.0));
}

#[test]
#[should_panic(expected = "for 16 slots")]
fn a_mask_beyond_the_pages_is_refused() {
    let mut case = Case::new(3, 64, 16, 1, 1);
    case.masks[0][0] = 1 << 16;
    case.attend(Isa::detect(), 0..1);
}

#[test]
fn keys_and_values_beyond_f16_are_its_largest_number() {
    let (head_dim, page_tokens) = (8, 8);
    for isa in Isa::available() {
        let mut page = vec![f16::ZERO; page_len(head_dim, page_tokens)];
        write_kv(&mut page, page_tokens, 0, &[1.0; 8], &[2.0; 8]);
        write_kv(
            &mut page,
            page_tokens,
            1,
            &[1e6; 8],
            &[-1e6, f32::NEG_INFINITY, 65504.0, 65520.0, 1.0, 0.0, 1e9, -1e9],
        );
        let queries = [0.01; 8];
        let mut attention = Attention::default();
        attention.start(1, Heads { heads: 1, head_dim, scale: 1.0, cap: None }, page_tokens);
        attention.attend_span(isa, &Tile::from_slice(&queries, 8), &[0b11], &[&page], &[]);
        let mut out = [0.0; 8];
        attention.finish(isa, &mut TileMut::from_slice(&mut out, 8));
        // Its score is by far the largest, so its value is the result; with an infinite one it was zero.
        assert_eq!(out, [-65504.0, -65504.0, 65504.0, 65504.0, 1.0, 0.0, 65504.0, -65504.0], "{isa}");
    }
}
