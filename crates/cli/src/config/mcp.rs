//! `[[mcp]]`: from its keys to the server that the runtime connects to.

use std::env::VarError;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use runtime::{McpLimits, McpServer, McpTransport};

use super::McpSettings;

/// What a process gets of pie's environment without being asked for: no secrets are in these.
const HANDED_ON: [&str; 9] = ["HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER"];

/// A variable of the environment.
type Variables<'a> = &'a dyn Fn(&str) -> Result<String, VarError>;

impl McpSettings {
    /// # Errors
    /// When the keys do not go together.
    pub(super) fn check(&self) -> Result<()> {
        match (&self.url, &self.command) {
            (None, None) => bail!("expected either a `url` or a `command`"),
            (Some(_), _) => {
                ensure!(self.env.is_empty(), "`env` belongs to a `command`, and there is a `url`")
            }
            (None, Some(_)) => {
                ensure!(self.headers.is_empty(), "`headers` belong to a `url`, and there is a `command`");
            }
        }
        Ok(())
    }

    /// The server.
    ///
    /// # Errors
    /// When it names a variable that the environment has not.
    pub(crate) fn server(&self) -> Result<McpServer> {
        let variables = |name: &str| std::env::var(name);
        let transport =
            self.transport(&variables).with_context(|| format!("`[[mcp]]` named `{}`", self.name))?;
        Ok(McpServer {
            name: self.name.clone(),
            transport,
            tools: self.tools.clone(),
            users: self.users.clone(),
            limits: McpLimits {
                time: Duration::from_millis(self.timeout_ms),
                argument_bytes: self.argument_kb << 10,
                result_bytes: self.result_kb << 10,
                tools: self.max_tools,
                user_calls: self.user_calls,
            },
        })
    }

    fn transport(&self, variables: Variables) -> Result<McpTransport> {
        if let Some(url) = &self.url {
            let header = |text: &String| {
                let (name, value) = header(text).expect("the parser takes headers only");
                Ok((name.to_string(), filled(value, variables)?))
            };
            let headers = self.headers.iter().map(header).collect::<Result<_>>()?;
            return Ok(McpTransport::Http { url: url.clone(), headers });
        }
        let handed_on = HANDED_ON.iter().filter_map(|name| Some((name.to_string(), variables(name).ok()?)));
        let mut environment: Vec<(String, String)> = handed_on.collect();
        for text in &self.env {
            environment.push(match text.split_once('=') {
                Some((name, value)) => (name.to_string(), filled(value, variables)?),
                None => (text.clone(), variable(text, variables)?),
            });
        }
        Ok(McpTransport::Stdio { command: self.command.clone().unwrap_or_default(), environment })
    }
}

/// Name and value of a header.
pub(super) fn header(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once(':')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    is_name.then_some((name, value.trim()))
}

fn variable(name: &str, variables: Variables) -> Result<String> {
    variables(name).with_context(|| format!("the variable `{name}` of pie's environment"))
}

/// A text with the variables that it names.
fn filled(text: &str, variables: Variables) -> Result<String> {
    let mut parts = text.split("${");
    let mut filled = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (name, rest) = part.split_once('}').context("a `${` without its `}`")?;
        filled += &variable(name, variables)?;
        filled += rest;
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str) -> Result<String, VarError> {
        let known = [("TOKEN", "secret"), ("PATH", "/bin")];
        let found = known.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.to_string()).ok_or(VarError::NotPresent)
    }

    fn settings() -> McpSettings {
        McpSettings { name: "x".to_string(), ..McpSettings::default() }
    }

    #[test]
    fn secrets_come_from_the_environment() {
        let headers = ["Authorization: Bearer ${TOKEN}", "X-Two:${TOKEN}${TOKEN}"].map(String::from).to_vec();
        let http = McpSettings { url: Some("http://x".to_string()), headers, ..settings() };
        let McpTransport::Http { headers, .. } = http.transport(&variables).unwrap() else { panic!("HTTP") };
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        assert_eq!(headers, [pair("Authorization", "Bearer secret"), pair("X-Two", "secretsecret")]);
        assert!(!format!("{:?}", http.transport(&variables).unwrap()).contains("secret"), "it is not shown");

        let env = ["TOKEN", "KEY=<${TOKEN}>"].map(String::from).to_vec();
        let stdio = McpSettings { command: Some(vec!["x".to_string()]), env, ..settings() };
        let McpTransport::Stdio { environment, .. } = stdio.transport(&variables).unwrap() else {
            panic!("a process")
        };
        assert_eq!(environment, [pair("PATH", "/bin"), pair("TOKEN", "secret"), pair("KEY", "<secret>")]);
    }

    #[test]
    fn what_the_environment_has_not_is_named() {
        for env in ["MISSING", "A=${MISSING}", "A=${TOKEN"] {
            let stdio = McpSettings { env: vec![env.to_string()], ..settings() };
            let error = format!("{:#}", stdio.transport(&variables).unwrap_err());
            assert!(error.contains("MISSING") || error.contains("without its"), "{env}: {error}");
        }
    }
}
