//! Reads JSON piece by piece, and the objects by which many formats call.
//!
//! JSON is checked as it passes, so that what has been given as the arguments of a call that ended is JSON.

use super::input::{Input, Wrong};

/// Where the characters go that are read.
enum Copy {
    /// To the arguments of the call.
    Arguments,
    /// Here.
    Here(String),
}

struct Json<'a> {
    input: &'a Input,
    copy: Copy,
}

/// Reads an object as the arguments of the call that has begun.
pub(super) async fn arguments(input: &Input) -> Result<(), Wrong> {
    if input.peek().await != Some('{') {
        return Err(Wrong);
    }
    Json { input, copy: Copy::Arguments }.value().await
}

/// Reads an object and gives its text.
async fn object(input: &Input) -> Result<String, Wrong> {
    if input.peek().await != Some('{') {
        return Err(Wrong);
    }
    let mut json = Json { input, copy: Copy::Here(String::new()) };
    json.value().await?;
    Ok(json.copied())
}

/// Reads a string and gives what it stands for.
async fn string(input: &Input) -> Result<String, Wrong> {
    let mut json = Json { input, copy: Copy::Here(String::new()) };
    json.string().await?;
    serde_json::from_str(&json.copied()).map_err(|_| Wrong)
}

/// Reads a call as an object: `{"name": "f", "arguments": {…}}`, or with `parameters`. The order is free, and
/// there may be a `type` and an `id`. The call has begun when this is done, and has not ended.
pub(super) async fn call(input: &Input) -> Result<(), Wrong> {
    input.expect("{").await?;
    let mut name: Option<String> = None;
    let mut held: Option<String> = None;
    let mut is_complete = false;
    loop {
        space(input).await;
        let key = string(input).await?;
        space(input).await;
        input.expect(":").await?;
        space(input).await;
        match key.as_str() {
            "name" if name.is_none() => {
                let found = string(input).await?;
                if let Some(arguments) = &held {
                    input.begin(&found)?;
                    input.arguments(arguments);
                }
                name = Some(found);
            }
            "arguments" | "parameters" if !is_complete => {
                match &name {
                    Some(name) => {
                        input.begin(name)?;
                        arguments(input).await?;
                    }
                    None => held = Some(object(input).await?),
                }
                is_complete = true;
            }
            "type" | "id" => {
                string(input).await?;
            }
            _ => return Err(Wrong),
        }
        space(input).await;
        if !input.maybe(",").await {
            break;
        }
    }
    input.expect("}").await?;
    if is_complete && name.is_some() { Ok(()) } else { Err(Wrong) }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

async fn space(input: &Input) {
    while input.take(is_space).await.is_ok() {}
}

impl Json<'_> {
    fn copied(self) -> String {
        match self.copy {
            Copy::Here(text) => text,
            Copy::Arguments => String::new(),
        }
    }

    async fn take(&mut self, is_wanted: impl Fn(char) -> bool) -> Result<char, Wrong> {
        let c = self.input.take(is_wanted).await?;
        match &mut self.copy {
            Copy::Arguments => self.input.arguments(c.encode_utf8(&mut [0; 4])),
            Copy::Here(text) => text.push(c),
        }
        Ok(c)
    }

    async fn space(&mut self) {
        while self.take(is_space).await.is_ok() {}
    }

    async fn value(&mut self) -> Result<(), Wrong> {
        // The brackets that close what is open.
        let mut open: Vec<char> = Vec::new();
        loop {
            let begin = self.input.peek().await.ok_or(Wrong)?;
            match begin {
                '{' | '[' => {
                    self.take(|_| true).await?;
                    self.space().await;
                    let close = if begin == '{' { '}' } else { ']' };
                    if self.take(|c| c == close).await.is_err() {
                        open.push(close);
                        if begin == '{' {
                            self.key().await?;
                        }
                        continue;
                    }
                }
                '"' => self.string().await?,
                '-' | '0'..='9' => self.number().await?,
                't' => self.word("true").await?,
                'f' => self.word("false").await?,
                'n' => self.word("null").await?,
                _ => return Err(Wrong),
            }
            // A value is complete, and what ends with it.
            loop {
                let Some(&close) = open.last() else { return Ok(()) };
                self.space().await;
                if self.take(|c| c == close || c == ',').await? == close {
                    open.pop();
                    continue;
                }
                self.space().await;
                if close == '}' {
                    self.key().await?;
                }
                break;
            }
        }
    }

    async fn key(&mut self) -> Result<(), Wrong> {
        self.string().await?;
        self.space().await;
        self.take(|c| c == ':').await?;
        self.space().await;
        Ok(())
    }

    async fn word(&mut self, word: &str) -> Result<(), Wrong> {
        for expected in word.chars() {
            self.take(|c| c == expected).await?;
        }
        Ok(())
    }

    async fn string(&mut self) -> Result<(), Wrong> {
        self.take(|c| c == '"').await?;
        loop {
            match self.take(|c| c >= ' ').await? {
                '"' => return Ok(()),
                '\\' => self.escape().await?,
                _ => {}
            }
        }
    }

    /// What follows a backslash.
    async fn escape(&mut self) -> Result<(), Wrong> {
        if self.take(|c| "\"\\/bfnrtu".contains(c)).await? == 'u' {
            for _ in 0..4 {
                self.take(|c| c.is_ascii_hexdigit()).await?;
            }
        }
        Ok(())
    }

    async fn number(&mut self) -> Result<(), Wrong> {
        let _ = self.take(|c| c == '-').await;
        if self.take(|c| c == '0').await.is_err() {
            self.digits().await?;
        }
        if self.take(|c| c == '.').await.is_ok() {
            self.digits().await?;
        }
        if self.take(|c| c == 'e' || c == 'E').await.is_ok() {
            let _ = self.take(|c| c == '+' || c == '-').await;
            self.digits().await?;
        }
        Ok(())
    }

    async fn digits(&mut self) -> Result<(), Wrong> {
        self.take(|c| c.is_ascii_digit()).await?;
        while self.take(|c| c.is_ascii_digit()).await.is_ok() {}
        Ok(())
    }
}
