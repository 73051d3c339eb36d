//! Tools of MCP servers (Model Context Protocol): the servers that the operator has configured, one session with each.
//!
//! ```text
//! Servers     by name: what is not configured is not there
//! Server      connects with the first call, and anew when its session has broken; bounds each call
//! session     a session over streamable HTTP, or with a process that is spoken to over its stdin and stdout
//! process     the process: its stderr goes to the log, and it ends with its session
//! lines       its messages, one a line, and what takes the place of one that is too long
//! ```
//!
//! A call whose future is dropped is cancelled at the server. Nothing is repeated by itself: whether a call that broke off
//! has done something, only its caller can tell.

mod lines;
mod process;
mod session;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use rmcp::ServiceError;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorCode, JsonObject,
    PaginatedRequestParams,
};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use session::Session;

/// Pages of a list of tools that are asked for.
const PAGES: usize = 64;

/// A server, as the operator has configured it.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The name under which programs know it.
    pub name: String,
    /// How it is reached.
    pub transport: Transport,
    /// The tools that may be called; all of them for none.
    pub tools: Option<Vec<String>>,
    /// The users whose programs may call it; all of them for none.
    pub users: Option<Vec<String>>,
    /// What a call may take.
    pub limits: Limits,
}

/// How a server is reached.
#[derive(Clone)]
pub enum Transport {
    /// Streamable HTTP.
    Http {
        /// Its address.
        url: String,
        /// Headers of each request, by name.
        headers: Vec<(String, String)>,
    },
    /// A process, over its stdin and stdout.
    Stdio {
        /// The program and its arguments; one text at least.
        command: Vec<String>,
        /// All of its environment.
        environment: Vec<(String, String)>,
    },
}

/// Values of headers and variables are secrets.
impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            |pairs: &[(String, String)]| pairs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        match self {
            Transport::Http { headers, .. } => {
                f.debug_struct("Http").field("headers", &names(headers)).finish_non_exhaustive()
            }
            Transport::Stdio { command, environment } => f
                .debug_struct("Stdio")
                .field("command", &command.first())
                .field("environment", &names(environment))
                .finish_non_exhaustive(),
        }
    }
}

/// What a call may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time of a call, with that of connecting. Default: 60 s.
    pub time: Duration,
    /// Bytes of the arguments of a call, as JSON. Default: 1 MiB.
    pub argument_bytes: usize,
    /// Bytes of a result, or of a list of tools. Default: 4 MiB.
    pub result_bytes: usize,
    /// Tools of a server. Default: 256.
    pub tools: usize,
    /// Calls of one user that are under way at once; more wait, and those of other users do not. Default: 8.
    pub user_calls: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            time: Duration::from_secs(60),
            argument_bytes: 1 << 20,
            result_bytes: 4 << 20,
            tools: 256,
            user_calls: 8,
        }
    }
}

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No session could be had.
    #[error("MCP server `{server}` cannot be reached: {reason}")]
    Unreachable {
        /// The server.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// The session has broken within the call.
    #[error("MCP server `{server}` broke off: {reason}; the next call connects anew")]
    Broken {
        /// The server.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// No answer came in time. The server was told that none is wanted any more.
    #[error("MCP server `{server}` gave no answer within {} ms", .time.as_millis())]
    Late {
        /// The server.
        server: String,
        /// The limit.
        time: Duration,
    },
    /// The user has as many calls under way as it may, and none of them ended in time.
    #[error("MCP server `{server}` has {limit} calls of this user under way, the limit, and none ended within {} ms", .time.as_millis())]
    Busy {
        /// The server.
        server: String,
        /// Calls of a user.
        limit: usize,
        /// How long the call waited.
        time: Duration,
    },
    /// The operator does not allow the tool.
    #[error("tool `{tool}` of MCP server `{server}` is not among the `tools` that the operator allows")]
    NotAllowed {
        /// The server.
        server: String,
        /// The tool.
        tool: String,
    },
    /// The server refuses the call: it has no such tool, or takes other arguments.
    #[error("MCP server `{server}` refuses: {reason}")]
    Refused {
        /// The server.
        server: String,
        /// Its words.
        reason: String,
    },
    /// The server answers otherwise than the protocol has it, or with an error of its own.
    #[error("MCP server `{server}` failed: {reason}")]
    Failed {
        /// The server.
        server: String,
        /// What it did.
        reason: String,
    },
    /// The message that answers a call is far longer than a result may be, and was not read to its end.
    #[error(
        "MCP server `{server}` answers with a message of more than {limit} bytes; a result may have {result_bytes}"
    )]
    TooLong {
        /// The server.
        server: String,
        /// Bytes of a message.
        limit: usize,
        /// Bytes of a result.
        result_bytes: usize,
    },
    /// More than a limit allows; the text names it.
    #[error("{what} of MCP server `{server}`: {found} exceed the limit of {limit}")]
    TooLarge {
        /// The server.
        server: String,
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
}

/// A tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its name for people.
    pub title: Option<String>,
    /// What it does.
    pub description: Option<String>,
    /// JSON Schema of its arguments.
    pub input_schema: String,
    /// JSON Schema of its structured result.
    pub output_schema: Option<String>,
    /// Hints about what it does, a JSON object.
    pub annotations: Option<String>,
}

impl Tool {
    fn bytes(&self) -> usize {
        let others = [&self.title, &self.description, &self.output_schema, &self.annotations];
        let others: usize = others.into_iter().flatten().map(String::len).sum();
        self.name.len() + self.input_schema.len() + others
    }
}

/// What a tool gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its parts.
    pub content: Vec<Content>,
    /// The same as one JSON value, where the tool has that.
    pub structured: Option<String>,
    /// Whether it tells of a failure.
    pub is_error: bool,
}

/// A part of what a tool gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A text.
    Text(String),
    /// An image.
    Image(Media),
    /// A sound.
    Audio(Media),
    /// A resource, or a link to one, as JSON.
    Resource(String),
}

/// An image or a sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// Its type, such as `image/png`.
    pub mime_type: String,
    /// Its bytes in base64.
    pub data: String,
}

impl Outcome {
    fn bytes(&self) -> usize {
        let content = self.content.iter().map(|part| match part {
            Content::Text(text) | Content::Resource(text) => text.len(),
            Content::Image(media) | Content::Audio(media) => media.data.len() + media.mime_type.len(),
        });
        content.sum::<usize>() + self.structured.as_ref().map_or(0, String::len)
    }
}

impl From<CallToolResult> for Outcome {
    fn from(result: CallToolResult) -> Outcome {
        let part = |part| match part {
            ContentBlock::Text(text) => Content::Text(text.text),
            ContentBlock::Image(image) => {
                Content::Image(Media { mime_type: image.mime_type, data: image.data })
            }
            ContentBlock::Audio(audio) => {
                Content::Audio(Media { mime_type: audio.mime_type, data: audio.data })
            }
            other => Content::Resource(json(&other)),
        };
        Outcome {
            content: result.content.into_iter().map(part).collect(),
            structured: result.structured_content.as_ref().map(ToString::to_string),
            is_error: result.is_error.unwrap_or(false),
        }
    }
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("it came as JSON")
}

/// The servers that there are.
#[derive(Default)]
pub struct Servers(Vec<Arc<Server>>);

impl Servers {
    /// Of these settings. Nothing is connected yet.
    pub fn new(servers: Vec<ServerConfig>) -> Servers {
        Servers(
            servers
                .into_iter()
                .map(|config| {
                    Arc::new(Server { config, session: Mutex::default(), users: std::sync::Mutex::default() })
                })
                .collect(),
        )
    }

    /// Those that programs of a user may call.
    pub fn of<'a>(&'a self, user: &'a str) -> impl Iterator<Item = &'a Arc<Server>> {
        self.0.iter().filter(move |server| {
            let users = server.config.users.as_ref();
            users.is_none_or(|users| users.iter().any(|allowed| allowed == user))
        })
    }

    /// Ends all sessions, and waits for their processes: two seconds at most.
    pub async fn close(&self) {
        let ends = self.0.iter().cloned().map(|server| tokio::spawn(async move { server.close().await }));
        for end in ends.collect::<Vec<_>>() {
            // One that panicked has ended as well.
            let _ = end.await;
        }
    }
}

/// A server.
pub struct Server {
    config: ServerConfig,
    /// The one that is used, if there is one.
    session: Mutex<Option<Arc<Session>>>,
    /// The places of users who have calls under way, or that wait.
    users: std::sync::Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Server {
    /// The name under which programs know it.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Its address, if it is reached over HTTP.
    pub fn url(&self) -> Option<&str> {
        match &self.config.transport {
            Transport::Http { url, .. } => Some(url),
            Transport::Stdio { .. } => None,
        }
    }

    /// What a call may take.
    pub fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// The tools that may be called. The call is one of this user's.
    ///
    /// # Errors
    /// When the server cannot be reached, fails, or has more than the limits allow.
    pub async fn tools(&self, user: &str) -> Result<Vec<Tool>, Error> {
        let _place = self.place(user).await?;
        self.in_time(async {
            let session = self.session().await?;
            let (mut tools, mut cursor) = (Vec::new(), None);
            for _ in 0..PAGES {
                let params = PaginatedRequestParams::default().with_cursor(cursor);
                let page = session.peer().list_tools(Some(params)).await;
                let page = page.map_err(|error| self.failure(error))?;
                tools.extend(page.tools.into_iter().filter(|tool| self.allows(&tool.name)).map(tool_of));
                self.check("tools", tools.len(), self.config.limits.tools)?;
                let bytes = tools.iter().map(Tool::bytes).sum();
                self.check("bytes of the list of tools", bytes, self.config.limits.result_bytes)?;
                cursor = page.next_cursor;
                if cursor.is_none() {
                    return Ok(tools);
                }
            }
            self.check("pages of the list of tools", PAGES + 1, PAGES)?;
            Ok(tools)
        })
        .await
    }

    /// Calls a tool for a user. Dropping the future cancels the call at the server.
    ///
    /// # Errors
    /// When the tool is not allowed, the server cannot be reached, refuses or fails, or the result is larger than the
    /// limit. A failure that the tool tells of is no error: see [`Outcome::is_error`].
    pub async fn call(&self, user: &str, tool: &str, arguments: JsonObject) -> Result<Outcome, Error> {
        if !self.allows(tool) {
            return Err(Error::NotAllowed { server: self.name().to_string(), tool: tool.to_string() });
        }
        let _place = self.place(user).await?;
        self.in_time(async {
            let session = self.session().await?;
            let params = CallToolRequestParams::new(tool.to_string()).with_arguments(arguments);
            let answer = session.peer().call_tool_once(params).await.map_err(|error| self.failure(error))?;
            let CallToolResponse::Complete(result) = answer else {
                return Err(
                    self.failed("it asks its client for more, which programs cannot give".to_string())
                );
            };
            let outcome = Outcome::from(result);
            self.check("bytes of the result", outcome.bytes(), self.config.limits.result_bytes)?;
            Ok(outcome)
        })
        .await
    }

    /// A place for one more call of a user. It waits for one as long as a call may take.
    async fn place(&self, user: &str) -> Result<OwnedSemaphorePermit, Error> {
        let Limits { time, user_calls: limit, .. } = self.config.limits;
        let places = {
            // The map is valid at any moment; a panic elsewhere does not spoil it.
            let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
            users.retain(|_, places| places.strong_count() > 0);
            let places = users.get(user).and_then(Weak::upgrade);
            let places = places.unwrap_or_else(|| Arc::new(Semaphore::new(limit)));
            users.insert(user.to_string(), Arc::downgrade(&places));
            places
        };
        match timeout(time, places.acquire_owned()).await {
            Ok(place) => Ok(place.expect("nobody closes it")),
            Err(_) => Err(Error::Busy { server: self.name().to_string(), limit, time }),
        }
    }

    fn allows(&self, tool: &str) -> bool {
        self.config.tools.as_ref().is_none_or(|tools| tools.iter().any(|allowed| allowed == tool))
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let time = self.config.limits.time;
        let late = || Error::Late { server: self.name().to_string(), time };
        timeout(time, call).await.unwrap_or_else(|_| Err(late()))
    }

    /// The session, or a new one where there is none or it has broken.
    async fn session(&self) -> Result<Arc<Session>, Error> {
        let mut held = self.session.lock().await;
        if let Some(session) = held.as_ref().filter(|session| !session.has_ended()) {
            return Ok(session.clone());
        }
        // A process that is left ends before another one begins.
        if let Some(broken) = held.take() {
            broken.close().await;
        }
        let connected = Session::connect(&self.config).await.map_err(|reason| {
            tracing::warn!(server = self.name(), "cannot connect: {reason}");
            Error::Unreachable { server: self.name().to_string(), reason: reason.told() }
        })?;
        let session = Arc::new(connected);
        *held = Some(session.clone());
        Ok(session)
    }

    async fn close(&self) {
        if let Some(session) = self.session.lock().await.take() {
            session.close().await;
        }
    }

    fn check(&self, what: &'static str, found: usize, limit: usize) -> Result<(), Error> {
        match found > limit {
            true => Err(Error::TooLarge { server: self.name().to_string(), what, found, limit }),
            false => Ok(()),
        }
    }

    fn failed(&self, reason: String) -> Error {
        Error::Failed { server: self.name().to_string(), reason }
    }

    fn failure(&self, error: ServiceError) -> Error {
        let server = self.name().to_string();
        match error {
            ServiceError::McpError(error) if error.code == ErrorCode(lines::TOO_LONG) => {
                let limits = &self.config.limits;
                let limit = session::message_bytes(limits);
                Error::TooLong { server, limit, result_bytes: limits.result_bytes }
            }
            ServiceError::McpError(error) => {
                let refusals =
                    [ErrorCode::INVALID_PARAMS, ErrorCode::METHOD_NOT_FOUND, ErrorCode::INVALID_REQUEST];
                let reason = error.message.to_string();
                match refusals.contains(&error.code) {
                    true => Error::Refused { server, reason },
                    false => Error::Failed { server, reason },
                }
            }
            ServiceError::TransportSend(error) => {
                tracing::warn!(server, "a request was not sent: {}", session::chain(&*error.error));
                Error::Broken { server, reason: "a request could not be sent".to_string() }
            }
            ServiceError::TransportClosed | ServiceError::Cancelled { .. } => {
                Error::Broken { server, reason: "the session has ended".to_string() }
            }
            other => Error::Failed { server, reason: other.to_string() },
        }
    }
}

fn tool_of(tool: rmcp::model::Tool) -> Tool {
    Tool {
        name: tool.name.into_owned(),
        title: tool.title,
        description: tool.description.map(|text| text.into_owned()),
        input_schema: json(&tool.input_schema),
        output_schema: tool.output_schema.as_ref().map(json),
        annotations: tool.annotations.as_ref().map(json),
    }
}
