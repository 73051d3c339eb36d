//! The JSON of a manifest, written while the program is compiled: a constant can be a custom section, and what is made at
//! run time cannot.
//!
//! It is written twice: into no bytes, which counts them, and then into an array of so many.

use std::borrow::Cow;

use crate::{Kind, Manifest, Parameter, Text};

impl Manifest {
    /// Bytes of [`Manifest::json`].
    pub const fn json_bytes(&self) -> usize {
        written::<0>(self).length
    }

    /// This manifest as JSON, of a constant.
    ///
    /// # Panics
    /// When `N` is not [`Manifest::json_bytes`], or a text is not of a constant.
    pub const fn json<const N: usize>(&self) -> [u8; N] {
        let writer = written::<N>(self);
        assert!(writer.length == N, "as many bytes as were counted");
        writer.bytes
    }
}

struct Writer<const N: usize> {
    bytes: [u8; N],
    /// Bytes written, those without room among them.
    length: usize,
}

const fn written<const N: usize>(manifest: &Manifest) -> Writer<N> {
    let mut writer = Writer { bytes: [0; N], length: 0 };
    writer.raw("{\"name\":");
    writer.text(borrowed(&manifest.name));
    writer.raw(",\"version\":");
    writer.text(borrowed(&manifest.version));
    writer.raw(",\"description\":");
    writer.text(borrowed(&manifest.description));
    if let Some(parameters) = &manifest.parameters {
        let Cow::Borrowed(parameters) = parameters else { panic!("a constant borrows its parameters") };
        writer.raw(",\"parameters\":[");
        let mut index = 0;
        while index < parameters.len() {
            if index > 0 {
                writer.raw(",");
            }
            writer.parameter(&parameters[index]);
            index += 1;
        }
        writer.raw("]");
    }
    writer.raw("}");
    writer
}

const fn borrowed(text: &Text) -> &str {
    match text {
        Cow::Borrowed(text) => text,
        Cow::Owned(_) => panic!("a constant borrows its texts"),
    }
}

impl<const N: usize> Writer<N> {
    const fn byte(&mut self, byte: u8) {
        if self.length < N {
            self.bytes[self.length] = byte;
        }
        self.length += 1;
    }

    const fn raw(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut index = 0;
        while index < bytes.len() {
            self.byte(bytes[index]);
            index += 1;
        }
    }

    const fn text(&mut self, text: &str) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let bytes = text.as_bytes();
        self.byte(b'"');
        let mut index = 0;
        while index < bytes.len() {
            match bytes[index] {
                byte @ (b'"' | b'\\') => {
                    self.byte(b'\\');
                    self.byte(byte);
                }
                byte @ 0..0x20 => {
                    self.raw("\\u00");
                    self.byte(DIGITS[(byte >> 4) as usize]);
                    self.byte(DIGITS[(byte & 15) as usize]);
                }
                byte => self.byte(byte),
            }
            index += 1;
        }
        self.byte(b'"');
    }

    const fn number(&mut self, number: u64) {
        if number >= 10 {
            self.number(number / 10);
        }
        self.byte(b'0' + (number % 10) as u8);
    }

    const fn truth(&mut self, name: &str, value: bool) {
        self.raw(name);
        self.raw(if value { "true" } else { "false" });
    }

    const fn parameter(&mut self, parameter: &Parameter) {
        self.raw("{\"name\":");
        self.text(borrowed(&parameter.name));
        if let Some(short) = parameter.short {
            assert!(short.is_ascii_alphanumeric(), "a short name is a letter or a digit");
            self.raw(",\"short\":\"");
            self.byte(short as u8);
            self.raw("\"");
        }
        self.raw(",\"about\":");
        self.text(borrowed(&parameter.about));
        self.raw(",\"kind\":{\"type\":");
        self.kind(&parameter.kind);
        self.raw("}");
        if let Some(default) = &parameter.default {
            self.raw(",\"default\":");
            self.text(borrowed(default));
        }
        self.truth(",\"required\":", parameter.required);
        self.truth(",\"positional\":", parameter.positional);
        self.truth(",\"list\":", parameter.list);
        self.raw("}");
    }

    const fn kind(&mut self, kind: &Kind) {
        match kind {
            Kind::String => self.raw("\"string\""),
            Kind::File => self.raw("\"file\""),
            Kind::Number => self.raw("\"number\""),
            Kind::Boolean => self.raw("\"boolean\""),
            Kind::Integer { min, max } => {
                self.raw("\"integer\",\"min\":");
                if *min < 0 {
                    self.raw("-");
                }
                self.number(min.unsigned_abs());
                self.raw(",\"max\":");
                self.number(*max);
            }
            Kind::Choice { of } => {
                let Cow::Borrowed(of) = of else { panic!("a constant borrows its choices") };
                self.raw("\"choice\",\"of\":[");
                let mut index = 0;
                while index < of.len() {
                    if index > 0 {
                        self.raw(",");
                    }
                    self.text(borrowed(&of[index]));
                    index += 1;
                }
                self.raw("]");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: Manifest = Manifest {
        name: Cow::Borrowed("drafts"),
        version: Cow::Borrowed("0.1.0"),
        description: Cow::Borrowed("Says \"é\"\n\\ and more"),
        parameters: Some(Cow::Borrowed(&[
            Parameter {
                name: Cow::Borrowed("level"),
                short: Some('l'),
                about: Cow::Borrowed("of what"),
                kind: Kind::Integer { min: i64::MIN, max: u64::MAX },
                default: Some(Cow::Borrowed("-3")),
                required: false,
                positional: false,
                list: true,
            },
            Parameter {
                name: Cow::Borrowed("mode"),
                short: None,
                about: Cow::Borrowed(""),
                kind: Kind::Choice { of: Cow::Borrowed(&[Cow::Borrowed("a"), Cow::Borrowed("b")]) },
                default: None,
                required: true,
                positional: true,
                list: false,
            },
        ])),
    };
    static JSON: [u8; MANIFEST.json_bytes()] = MANIFEST.json();

    #[test]
    fn what_the_compiler_writes_is_what_serde_reads() {
        let read: Manifest = serde_json::from_slice(&JSON).unwrap();
        assert_eq!(read, MANIFEST);
        let kinds = [Kind::String, Kind::File, Kind::Number, Kind::Boolean, Kind::Integer { min: 0, max: 9 }];
        for kind in kinds {
            let mut writer = Writer::<100> { bytes: [0; 100], length: 0 };
            writer.raw("{\"type\":");
            writer.kind(&kind);
            writer.raw("}");
            assert_eq!(serde_json::from_slice::<Kind>(&writer.bytes[..writer.length]).unwrap(), kind);
        }
    }

    #[test]
    fn a_program_that_declares_nothing_says_so() {
        const SILENT: Manifest = Manifest {
            name: Cow::Borrowed("a"),
            version: Cow::Borrowed("1.0.0"),
            description: Cow::Borrowed(""),
            parameters: None,
        };
        let read: Manifest = serde_json::from_slice(&SILENT.json::<{ SILENT.json_bytes() }>()).unwrap();
        assert_eq!(read, SILENT);
        assert!(SILENT.check(&["--what".to_string()]).is_ok());
    }
}
