//! EBNF in the dialect of llama.cpp (GBNF), translated to Lark for the grammar library.
//!
//! ```text
//! rule     ::=  name "::=" alternatives
//! element  ::=  "text" | 'text' | [a-z] | [^"\\] | . | name | ( alternatives )
//! suffix   ::=  * | + | ? | {n} | {n,} | {n,m}
//! ```
//!
//! `=` and `:=` are taken for `::=`, and a rule may end with `;`, which covers the usual textbook EBNF too.
//! The start rule is `root`, or the first one.

use std::fmt::Write;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Assign,
    Text(String),
    Class { negated: bool, ranges: Vec<(char, char)> },
    Repeat(u32, Option<u32>),
    Mark(char),
}

/// The same grammar in Lark.
///
/// # Errors
/// What is wrong and in which line.
pub(super) fn to_lark(source: &str) -> Result<String, String> {
    let tokens = Lexer { rest: source, line: 1 }.tokens()?;
    let starts: Vec<usize> = (0..tokens.len()).filter(|i| is_rule(&tokens, *i)).collect();
    if starts.first() != Some(&0) {
        return Err("expected a rule, `name ::= …`, at the beginning".into());
    }
    let names: Vec<&str> = starts.iter().map(|i| name(&tokens[*i].1)).collect();
    let root = names.iter().find(|n| **n == "root").unwrap_or(&names[0]);
    let mut lark = format!("start: {}\n", rule_name(root));
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(tokens.len());
        let body = tokens[start + 2..end].iter().filter(|(_, t)| *t != Token::Mark(';'));
        let mut line = format!("{}:", rule_name(names[index]));
        let mut depth = 0;
        for (at, token) in body {
            match token {
                Token::Mark('(') => depth += 1,
                Token::Mark(')') => depth -= 1,
                Token::Name(used) if !names.contains(&used.as_str()) => {
                    return Err(format!("line {at}: rule `{used}` is not defined"));
                }
                _ => {}
            }
            if depth < 0 {
                return Err(format!("line {at}: `)` without `(`"));
            }
            write_token(&mut line, token);
        }
        if depth > 0 {
            return Err(format!("rule `{}`: `(` without `)`", names[index]));
        }
        lark.push_str(&line);
        lark.push('\n');
    }
    Ok(lark)
}

fn is_rule(tokens: &[(usize, Token)], index: usize) -> bool {
    matches!(tokens[index].1, Token::Name(_))
        && tokens.get(index + 1).is_some_and(|(_, t)| *t == Token::Assign)
}

fn name(token: &Token) -> &str {
    match token {
        Token::Name(name) => name,
        _ => "",
    }
}

/// Lark wants lower case and no dashes; two names that differ only so stay apart by the escape.
fn rule_name(name: &str) -> String {
    let mut rule = String::from("r_");
    for c in name.chars() {
        match c {
            'a'..='z' | '0'..='9' => rule.push(c),
            '-' => rule.push('_'),
            other => {
                let _ = write!(rule, "_{:x}_", u32::from(other));
            }
        }
    }
    rule
}

fn write_token(line: &mut String, token: &Token) {
    let _ = match token {
        Token::Name(name) => write!(line, " {}", rule_name(name)),
        Token::Text(text) => write!(line, " {}", serde_json::Value::from(text.as_str())),
        Token::Class { negated, ranges } => {
            let mut class = String::from(if *negated { " /[^" } else { " /[" });
            for (first, last) in ranges {
                let _ = write!(class, "\\x{{{:x}}}-\\x{{{:x}}}", u32::from(*first), u32::from(*last));
            }
            write!(line, "{class}]/")
        }
        Token::Repeat(least, Some(most)) => write!(line, "{{{least},{most}}}"),
        Token::Repeat(least, None) => write!(line, "{{{least},}}"),
        Token::Mark(mark @ ('*' | '+' | '?')) => write!(line, "{mark}"),
        Token::Mark(mark) => write!(line, " {mark}"),
        Token::Assign => Ok(()),
    };
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

impl Lexer<'_> {
    fn tokens(mut self) -> Result<Vec<(usize, Token)>, String> {
        let mut tokens = Vec::new();
        while let Some(c) = self.next() {
            let line = self.line;
            let token = match c {
                '\n' => {
                    self.line += 1;
                    continue;
                }
                c if c.is_whitespace() => continue,
                '#' => {
                    self.take_while(|c| c != '\n');
                    continue;
                }
                ':' | '=' => {
                    self.take_while(|c| c == ':' || c == '=');
                    Token::Assign
                }
                '"' | '\'' => Token::Text(self.text(c)?),
                '[' => self.class()?,
                '{' => self.repeat()?,
                '.' => Token::Class { negated: false, ranges: vec![('\0', char::MAX)] },
                '(' | ')' | '|' | '*' | '+' | '?' | ';' => Token::Mark(c),
                c if c.is_ascii_alphanumeric() || c == '_' => Token::Name(format!(
                    "{c}{}",
                    self.take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
                )),
                other => return Err(format!("line {line}: unexpected `{other}`")),
            };
            tokens.push((line, token));
        }
        Ok(tokens)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|c| !keep(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken.to_string()
    }

    fn expect(&mut self, what: &str) -> Result<char, String> {
        let line = self.line;
        self.next().filter(|c| *c != '\n').ok_or_else(|| format!("line {line}: {what} does not end"))
    }

    fn text(&mut self, quote: char) -> Result<String, String> {
        let mut text = String::new();
        loop {
            match self.expect("a text")? {
                c if c == quote => return Ok(text),
                '\\' => text.push(self.escape()?),
                c => text.push(c),
            }
        }
    }

    fn class(&mut self) -> Result<Token, String> {
        let negated = self.rest.starts_with('^');
        if negated {
            self.next();
        }
        let mut ranges: Vec<(char, char)> = Vec::new();
        loop {
            let first = match self.expect("a character class")? {
                ']' if ranges.is_empty() => {
                    return Err(format!("line {}: an empty character class", self.line));
                }
                ']' => return Ok(Token::Class { negated, ranges }),
                '\\' => self.escape()?,
                c => c,
            };
            let is_range = self.rest.starts_with('-') && !self.rest.starts_with("-]");
            let last = if is_range {
                self.next();
                match self.expect("a character class")? {
                    '\\' => self.escape()?,
                    c => c,
                }
            } else {
                first
            };
            if last < first {
                return Err(format!("line {}: the range `{first}-{last}` runs backwards", self.line));
            }
            ranges.push((first, last));
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let c = self.expect("an escape")?;
        let digits = match c {
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            other => return Ok(other),
        };
        let found = self.rest.get(..digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let Some(found) = found.and_then(char::from_u32) else {
            return Err(format!(
                "line {}: `\\{c}` needs {digits} hexadecimal digits of a character",
                self.line
            ));
        };
        self.rest = &self.rest[digits..];
        Ok(found)
    }

    fn repeat(&mut self) -> Result<Token, String> {
        let inside = self.take_while(|c| c != '}' && c != '\n');
        let closed = self.next() == Some('}');
        let (least, most) = match inside.split_once(',') {
            None => (inside.trim().parse(), Some(inside.trim())),
            Some((least, most)) => (least.trim().parse(), Some(most.trim()).filter(|m| !m.is_empty())),
        };
        let most = most.map(str::parse::<u32>).transpose();
        match (closed, least, most) {
            (true, Ok(least), Ok(most)) if most.is_none_or(|m| m >= least) => Ok(Token::Repeat(least, most)),
            _ => Err(format!("line {}: `{{{inside}}}`: expected {{n}}, {{n,}} or {{n,m}}", self.line)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grammar_becomes_lark() {
        let lark = to_lark(
            "# a list of words\nroot ::= \"[\" word-list \"]\"\nword-list ::= word (\", \" word)*\n  | \"none\"\nword ::= [a-zA-Z]{2,5} [^\\]\\n]?",
        )
        .unwrap();
        let expected = "start: r_root\nr_root: \"[\" r_word_list \"]\"\n\
            r_word_list: r_word ( \", \" r_word )* | \"none\"\n\
            r_word: /[\\x{61}-\\x{7a}\\x{41}-\\x{5a}]/{2,5} /[^\\x{5d}-\\x{5d}\\x{a}-\\x{a}]/?\n";
        assert_eq!(lark, expected);
    }

    #[test]
    fn mistakes_are_named() {
        for (source, expected) in [
            ("", "expected a rule"),
            ("root ::= missing", "`missing` is not defined"),
            ("root ::= (\"a\"", "`(` without `)`"),
            ("root ::= \"a\n", "a text does not end"),
            ("root ::= [z-a]", "runs backwards"),
            ("root ::= \"a\"{3,1}", "expected {n}"),
            ("root ::= \"\\xzz\"", "hexadecimal"),
        ] {
            let error = to_lark(source).unwrap_err();
            assert!(error.contains(expected), "{source:?}: {error}");
        }
    }
}
