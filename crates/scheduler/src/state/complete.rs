//! What a computed row changes.

use std::time::Duration;

use backend::{Output, Value};

use super::{Running, Scheduler};
use crate::context::{self, Context};
use crate::memory::{Holder, low_bits};
use crate::pages::Provenance;
use crate::pass::Pass;
use crate::policy::{Stream, Work};
use crate::prefix::Parent;
use crate::request::{ForwardError, ForwardReply, Ticket};

/// The cost of a batch.
#[derive(Clone, Copy)]
struct Compute {
    batch: Duration,
    rows: u32,
}

impl Scheduler {
    /// Takes in the result of the batch that was planned, which the backend computed for `compute`; values are taken
    /// out of it. On an error every pass of the batch is answered with it, and their contexts are as before.
    pub fn complete(&mut self, result: Result<&mut Output, ForwardError>, compute: Duration, now: Duration) {
        let running = std::mem::take(&mut self.running);
        assert!(!running.is_empty(), "a batch is completed that was not planned");
        // Only the owners answered last may come back at once.
        self.expected_back.clear();
        self.completed = Some((now, now.saturating_sub(self.started)));
        match result {
            Ok(output) => {
                let expected: usize = running.iter().map(|pass| pass.outputs).sum();
                let found = output.values.len();
                assert!(found == expected, "the backend gave {found} values, {expected} were requested");
                self.totals.batches += 1;
                self.totals.batch_requests += running.len() as u64;
                let mut values = output.values.drain(..);
                let compute = Compute { batch: compute, rows: running.iter().map(|pass| pass.rows).sum() };
                self.totals.step_seconds.observe(compute.batch.as_secs_f64());
                self.totals.batch_rows.observe(f64::from(compute.rows));
                self.fair.observe(running.iter().map(|pass| pass.work).sum(), compute.batch);
                for pass in running {
                    self.advance(pass, &mut values, compute, now);
                }
            }
            Err(error) => {
                self.totals.batches_failed += 1;
                for pass in running {
                    self.expect_back(pass.ticket);
                    self.fail_pass(pass.ticket, error.clone());
                }
            }
        }
    }

    fn advance(
        &mut self,
        running: Running,
        values: &mut impl Iterator<Item = Value>,
        compute: Compute,
        now: Duration,
    ) {
        self.totals.rows_computed += u64::from(running.rows);
        // The pass is taken out while its rows are entered, so that memory and pass can change side by side.
        let Some(mut pass) = self.passes.remove(&running.ticket) else {
            values.by_ref().take(running.outputs).for_each(drop);
            return;
        };
        let first = pass.outputs_sent - running.outputs;
        for (_, index, _) in &pass.outputs[first..pass.outputs_sent] {
            pass.values[*index] = values.next();
        }
        let Context { owner, tenant, .. } = *self.context_of(&pass);
        self.fair.computed(tenant, now);
        for _ in 0..running.rows {
            self.enter_row(&mut pass, Holder::Owner(owner));
        }
        pass.last_progress_at = now;
        pass.compute += compute.batch;
        pass.compute_share += compute.batch * running.rows / compute.rows;
        let finished = pass.left() == 0;
        self.passes.insert(running.ticket, pass);
        if finished {
            self.expect_back(running.ticket);
            self.finish(running.ticket, now);
        }
    }

    /// The next row of a pass is computed: its slot is live for the pass, and a page it fills may enter the cache.
    fn enter_row(&mut self, pass: &mut Pass, holder: Holder) {
        let page_tokens = self.limits.page_tokens;
        let row = pass.done;
        let next = pass.next_slot(page_tokens);
        let (index, slot) =
            (next as usize / page_tokens as usize - pass.first_written_entry, next % page_tokens);
        let cacheable = pass.is_cacheable(row);
        let (token, position) = (pass.request.tokens[row as usize], pass.position(row));
        let entry = &mut pass.entries[index];
        let page = self.memory.pages.get_mut(entry.page);
        page.tokens[slot as usize] = token;
        page.positions[slot as usize] = position;
        let mine = pass.prefix_node.map(|parent| Provenance { parent, adapter: pass.request.adapter });
        let continues = slot == 0 || (page.provenance == mine && entry.live == low_bits(slot));
        page.provenance = mine.filter(|_| cacheable && continues);
        entry.live |= 1 << slot;
        pass.last_page_len = slot + 1;
        pass.done += 1;
        if pass.last_page_len == page_tokens {
            pass.prefix_node = self.page_filled(pass, index, holder);
        }
    }

    /// A page of a pass is full: registers it, or shares the one that the cache has already. The new prefix node.
    fn page_filled(&mut self, pass: &mut Pass, index: usize, holder: Holder) -> Option<Parent> {
        let entry = pass.entries[index];
        let borrowed = index == 0 && pass.tail_in_place;
        // A pass that is given back must not leave its rows in the context's page for others to find.
        if entry.live != self.memory.full() || (borrowed && !pass.request.keep_kv) {
            return None;
        }
        let (node, page) = self.memory.register(entry.page, pass.prefix_node?)?;
        if page != entry.page {
            self.memory.hold(holder, page);
            pass.entries[index].page = page;
            if borrowed {
                pass.tail_in_place = false;
            } else {
                self.memory.release(holder, entry.page);
            }
        }
        Some(Parent::Node(node))
    }

    /// The owner of a pass is about to act on its answer, and probably comes back with another pass.
    fn expect_back(&mut self, ticket: Ticket) {
        if let Some(pass) = self.passes.get(&ticket) {
            let Context { owner, tenant, .. } = *self.context_of(pass);
            *self.expected_back.entry((tenant, owner)).or_insert(0) += 1;
        }
    }

    /// All rows of a pass are done: its entries become the context's, or are dropped, and it is answered.
    fn finish(&mut self, ticket: Ticket, now: Duration) {
        let keep = self.passes[&ticket].request.keep_kv;
        let pass = match keep {
            true => self.passes.remove(&ticket).expect("looked up above"),
            false => self.rollback_pass(ticket).expect("looked up above"),
        };
        let context = self.contexts.get_mut(&pass.request.context).expect("a pass in flight has its context");
        context.pass = None;
        context.answered = Some(now);
        // Only what comes before the last row can be found, and where the first page is begun already, all of that page.
        let begun = context::tail(&context.entries).unwrap_or(0) % self.limits.page_tokens;
        let findable =
            if begun > 0 { begun + pass.rows() > self.limits.page_tokens } else { pass.rows() > 1 };
        let asked = self.memory.caching && findable;
        if keep {
            self.fair.leave(context.tenant);
            if !pass.tail_in_place {
                self.memory
                    .release_all(Holder::Owner(context.owner), &context.entries[pass.first_written_entry..]);
            }
            context.length += pass.rows();
            context.next_position = pass.next_position();
            context.prefix_node = pass.prefix_node;
            context.entries.truncate(pass.first_written_entry);
            context.entries.extend_from_slice(&pass.entries);
        }
        if pass.rows() <= self.limits.page_tokens {
            let Context { tenant, priority, length, .. } = *context;
            let work = Work::of(pass.rows(), length);
            self.fair
                .streams
                .answered(pass.request.context, Stream { answered: now, tenant, priority, work });
        }
        let (length, next_position) = (context.length, context.next_position);
        if asked {
            self.totals.prefix_rows_asked += u64::from(pass.rows());
            self.totals.prefix_rows_found += u64::from(pass.cached);
        }
        let values = pass.values.into_iter().map(|value| value.expect("every output row was computed"));
        let reply = ForwardReply {
            values: values.collect(),
            length,
            next_position,
            computed_tokens: pass.done - pass.cached,
            cached_tokens: pass.cached,
            compute: pass.compute,
            compute_share: pass.compute_share,
        };
        self.totals.completed += 1;
        self.replies.push((ticket, Ok(reply)));
    }
}
