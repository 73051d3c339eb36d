//! A batch of events in MessagePack, as vLLM's publishers write it: structs are arrays, an event begins with its name.
//!
//! ```text
//! batch    [ts, [event, …], data_parallel_rank]
//! event    ["BlockStored", [hash, …], parent hash or nil, [token, …], block_size, lora_id, medium, lora_name, extra_keys]
//!          ["BlockRemoved", [hash, …], medium]
//!          ["AllBlocksCleared"]
//! ```
//! `extra_keys` has an entry for each block: nil, and for the first block of a chain a list with the user's salt.

/// Where blocks are. vLLM's name for the memory that the model computes on, of its CPU backend too.
const MEDIUM: &str = "GPU";

/// Consecutive blocks of one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) hashes: Vec<u64>,
    pub(super) parent: Option<u64>,
    pub(super) tokens: Vec<u32>,
    pub(super) block_size: u32,
    pub(super) lora_id: Option<u32>,
    /// The salt of the first block's hash, where it is the first of its chain.
    pub(super) salt: Option<String>,
}

/// What a batch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Stored(Stored),
    Removed(Vec<u64>),
    Cleared,
}

/// The bytes of a batch, at `time` in seconds since 1970.
pub(super) fn encode(time: f64, events: &[Event]) -> Vec<u8> {
    let mut out = Pack(Vec::new());
    out.array(3);
    out.float(time);
    out.array(events.len());
    events.iter().for_each(|event| out.event(event));
    out.uint(0);
    out.0
}

/// Writes MessagePack, each value in its shortest form.
struct Pack(Vec<u8>);

impl Pack {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Stored(stored) => {
                self.array(9);
                self.text("BlockStored");
                self.uints(stored.hashes.iter().copied());
                self.option(stored.parent);
                self.uints(stored.tokens.iter().map(|token| u64::from(*token)));
                self.uint(stored.block_size.into());
                self.option(stored.lora_id.map(u64::from));
                self.text(MEDIUM);
                self.nil();
                self.array(stored.hashes.len());
                for index in 0..stored.hashes.len() {
                    match stored.salt.as_ref().filter(|_| index == 0) {
                        Some(salt) => {
                            self.array(1);
                            self.text(salt);
                        }
                        None => self.nil(),
                    }
                }
            }
            Event::Removed(hashes) => {
                self.array(3);
                self.text("BlockRemoved");
                self.uints(hashes.iter().copied());
                self.text(MEDIUM);
            }
            Event::Cleared => {
                self.array(1);
                self.text("AllBlocksCleared");
            }
        }
    }

    fn nil(&mut self) {
        self.0.push(0xc0);
    }

    fn option(&mut self, value: Option<u64>) {
        match value {
            Some(value) => self.uint(value),
            None => self.nil(),
        }
    }

    fn float(&mut self, value: f64) {
        self.0.push(0xcb);
        self.0.extend(value.to_be_bytes());
    }

    fn uint(&mut self, value: u64) {
        match value {
            0..=0x7f => self.0.push(value as u8),
            0x80..=0xff => self.0.extend([0xcc, value as u8]),
            0x100..=0xffff => self.tagged(0xcd, &(value as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => self.tagged(0xce, &(value as u32).to_be_bytes()),
            _ => self.tagged(0xcf, &value.to_be_bytes()),
        }
    }

    fn uints(&mut self, values: impl ExactSizeIterator<Item = u64>) {
        self.array(values.len());
        values.for_each(|value| self.uint(value));
    }

    fn array(&mut self, length: usize) {
        match length {
            0..=15 => self.0.push(0x90 | length as u8),
            16..=0xffff => self.tagged(0xdc, &(length as u16).to_be_bytes()),
            _ => self.tagged(0xdd, &(length as u32).to_be_bytes()),
        }
    }

    /// A text of fewer than 256 bytes: names and salts.
    fn text(&mut self, text: &str) {
        let length = u8::try_from(text.len()).expect("a name or a salt is short");
        match length {
            0..=31 => self.0.push(0xa0 | length),
            _ => self.0.extend([0xd9, length]),
        }
        self.0.extend(text.as_bytes());
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.0.push(tag);
        self.0.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_these_bytes() {
        let stored = Stored {
            hashes: vec![1, 0x0102_0304_0506_0708],
            parent: None,
            tokens: vec![5, 200, 49_000, 70_000],
            block_size: 2,
            lora_id: None,
            salt: Some("user-3".into()),
        };
        let events = [
            Event::Stored(stored.clone()),
            Event::Stored(Stored {
                parent: Some(9),
                lora_id: Some(4),
                salt: None,
                hashes: vec![7],
                ..stored
            }),
            Event::Removed(vec![7, 300]),
            Event::Cleared,
        ];
        let mut expected = vec![0x93, 0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 0x94];
        let tokens = [0x94, 5, 0xcc, 200, 0xcd, 0xbf, 0x68, 0xce, 0, 1, 0x11, 0x70];
        expected.extend(b"\x99\xabBlockStored\x92\x01\xcf\x01\x02\x03\x04\x05\x06\x07\x08\xc0");
        expected.extend(tokens);
        expected.extend(b"\x02\xc0\xa3GPU\xc0\x92\x91\xa6user-3\xc0");
        expected.extend(b"\x99\xabBlockStored\x91\x07\x09");
        expected.extend(tokens);
        expected.extend(b"\x02\x04\xa3GPU\xc0\x91\xc0");
        expected.extend(b"\x93\xacBlockRemoved\x92\x07\xcd\x01\x2c\xa3GPU");
        expected.extend(b"\x91\xb0AllBlocksCleared");
        expected.push(0);
        assert_eq!(encode(1.5, &events), expected);
    }

    #[test]
    fn long_arrays_have_long_heads() {
        let bytes = encode(0.0, &[Event::Removed((0..70_000).collect())]);
        assert_eq!(bytes[25..30], [0xdd, 0, 1, 0x11, 0x70], "behind the name");
        let bytes = encode(0.0, &[Event::Removed((0..16).collect())]);
        assert!(bytes.windows(3).any(|window| window == [0xdc, 0, 16]));
    }
}
