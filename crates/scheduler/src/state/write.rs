//! Writing planned rows into the batch: pages with their live slots, rows with their slots, masks and outputs.

use backend::{Batch, EmbeddingRow, OutputRequest, PageSlots, RowMask, SequenceSpan};

use super::{Running, Scheduler};
use crate::policy::Work;
use crate::request::Ticket;

impl Scheduler {
    /// Writes the next rows of a pass into the batch.
    pub(super) fn write_rows(&mut self, ticket: Ticket, rows: u32, batch: &mut Batch) {
        let page_tokens = self.limits.page_tokens;
        let pass = &self.passes[&ticket];
        let context = &self.contexts[&pass.request.context];
        let (first_page, first_row) = (batch.pages.len(), batch.rows());
        for entry in context.entries[..pass.first_written_entry].iter().chain(&pass.entries) {
            let page = self.device(entry.page).expect("pages of a batch were brought back");
            batch.pages.push(PageSlots { page, live: entry.live });
        }
        let start = pass.next_slot(page_tokens);
        for row in pass.done..pass.done + rows {
            let slot = start + row - pass.done;
            let embedding = pass.request.embeddings.binary_search_by_key(&(row as usize), |(r, _)| *r).ok();
            batch.tokens.push(if embedding.is_some() { 0 } else { pass.request.tokens[row as usize] });
            batch.positions.push(pass.position(row));
            batch.slots.push(slot);
            let batch_row = batch.slots.len() - 1;
            if let Some(index) = embedding {
                let values = pass.request.embeddings[index].1.to_vec();
                batch.embeddings.push(EmbeddingRow { row: batch_row, values });
            }
            if let Some(masks) = &pass.request.masks {
                let live = &batch.pages[first_page..];
                let attend = pass.attend(&masks[row as usize], live, start, slot, page_tokens);
                batch.masks.push(RowMask { row: batch_row, attend });
            }
        }
        for page in start / page_tokens..=(start + rows - 1) / page_tokens {
            let entry = pass.entries[page as usize - pass.first_written_entry];
            assert!(self.memory.writable(entry.page), "{entry:?} is written while others see it");
        }
        let work = Work::of(rows, context.length + pass.done);
        let pass = self.passes.get_mut(&ticket).expect("a pass in the queue exists");
        let before = pass.outputs_sent;
        let end = (pass.done + rows) as usize;
        while let Some((row, _, kind)) = pass.outputs.get_mut(pass.outputs_sent).filter(|o| o.0 < end) {
            let kind = kind.take().expect("an output is requested once");
            batch.outputs.push(OutputRequest { row: first_row + *row - pass.done as usize, kind });
            pass.outputs_sent += 1;
        }
        batch.sequences.push(SequenceSpan {
            pages: first_page..batch.pages.len(),
            rows: first_row..batch.rows(),
            adapter: pass.request.adapter,
        });
        self.running.push(Running { ticket, rows, work, outputs: pass.outputs_sent - before });
    }
}
