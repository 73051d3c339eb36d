//! What each call does. What takes time is done on a task of its own, so that the next request does not wait for it; what
//! goes to one inferlet keeps its order.

use std::sync::Arc;
use std::time::Duration;

use protocol::{
    Answer, Call, ContextPages, DescribedProgram, ErrorCode, Failure, InferletPages, ListedInferlet,
    ListedProgram, ModelPages, ProgramSource, State, Usage, Used,
};
use runtime::{
    ARGUMENT_BYTES, ARGUMENTS, LaunchError, LaunchOptions, Program, ProgramError, Taken, UploadError,
};

use super::hub::Hub;
use super::state::{InputItem, Session};
use super::upload::{self, Progress};
use crate::auth::{Client, Refused};
use crate::{Front, Phase};

/// Bytes of the arguments of an inferlet in a list.
const LISTED_BYTES: usize = 1024;
/// Inferlets whose pages an answer has.
const LISTED_INFERLETS: usize = 1024;
/// Characters of what a client sent, in an error.
const QUOTED: usize = 200;

/// What calls work on.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) front: Front,
    pub(super) hub: Arc<Hub>,
    pub(super) session: Arc<Session>,
}

fn done(result: Result<(), Failure>) -> Result<Answer, Failure> {
    result.map(|()| Answer::Done)
}

/// As much of a text as an error may quote.
fn quoted(text: &str) -> String {
    text.chars().take(QUOTED).collect()
}

impl Context {
    fn user(&self) -> &str {
        &self.session.user
    }

    /// Does a call and answers it, now or later.
    pub(super) async fn call(&self, request: u64, call: Call) {
        let session = &self.session;
        match call {
            Call::Find { hash } => {
                let known = self.hub.runtime.has_program(self.user(), &hash);
                session.answer_again(request, Ok(Answer::Found { known }));
            }
            Call::Programs => session.answer_again(request, Ok(self.programs())),
            Call::Describe { program } => self.describe(request, program),
            Call::Pages { inferlet } => self.pages(request, inferlet),
            Call::List => session.answer_again(request, Ok(self.list())),
            Call::Usage => session.answer_again(request, Ok(self.usage())),
            Call::Stats => session.answer_again(request, self.stats().await),
            Call::Upload { hash, bytes, offset, data } => self.upload(request, hash, bytes, offset, &data.0),
            Call::Install { hash, name } => self.later(request, async move |context| {
                context.check_upload_allowed(&hash)?;
                let installed = context.hub.runtime.install_program(context.user(), &hash, &name).await;
                done(installed.map_err(|error| upload_failure(&error)))
            }),
            Call::Remove { program } => self.later(request, async move |context| {
                let removed = context.hub.runtime.remove_program(context.user(), &program).await;
                done(removed.map_err(|error| upload_failure(&error)))
            }),
            Call::Launch { program, arguments, detached } => {
                self.launch(request, program, arguments, detached)
            }
            Call::Attach { inferlet, after } => {
                match self.attachable(&inferlet).and_then(|hosted| session.attach(&hosted, after)) {
                    Ok((starts, answer)) => session.answer_and_start(request, answer, starts),
                    Err(error) => session.answer(request, Err(error)),
                }
            }
            Call::Detach { inferlet } => session.answer(request, done(self.detach(&inferlet))),
            Call::Send { inferlet, message } => self.send(request, &inferlet, InputItem::Message(message)),
            Call::Signal { inferlet, signal } => self.send(request, &inferlet, InputItem::Signal(signal)),
            Call::Terminate { inferlet } => session.answer(request, done(self.terminate(&inferlet))),
        }
    }

    /// Does something on a task of its own.
    fn later<F>(&self, request: u64, work: impl FnOnce(Context) -> F + Send + 'static)
    where
        F: Future<Output = Result<Answer, Failure>> + Send,
    {
        let context = self.clone();
        tokio::spawn(async move {
            let session = context.session.clone();
            session.answer(request, work(context).await);
        });
    }

    /// A key that lists programs can bring those only whose hash it lists.
    fn check_upload_allowed(&self, hash: &str) -> Result<(), Failure> {
        let client = self.session.client();
        match client.is_none_or(|client| client.key.grant.allows_program(hash)) {
            true => Ok(()),
            false => {
                let words =
                    format!("the key allows some programs only, and `{}` is none of them", quoted(hash));
                Err(Failure::new(ErrorCode::ProgramNotAllowed, words))
            }
        }
    }

    fn upload(&self, request: u64, hash: String, total: u64, offset: u64, part: &[u8]) {
        let received = |bytes, complete| Ok(Answer::Received { bytes, complete });
        let taken = self.check_upload_allowed(&hash).and_then(|()| {
            let runtime = &self.hub.runtime;
            // Its user's own: only those can be given names.
            if runtime.uploaded(self.user()).iter().any(|(_, own)| *own == hash) {
                self.session.with_uploads(|uploads| uploads.remove(&hash));
                return Ok(None);
            }
            let client = self.session.client();
            let reserve = || {
                runtime.check_upload(self.user(), &hash, total).map_err(|error| upload_failure(&error))?;
                let grant = client.as_ref().map(|client| &*client.key.grant);
                let reserved = runtime.reserve(self.user(), grant, total);
                reserved.map_err(|words| Failure::new(ErrorCode::LimitExceeded, words))
            };
            let take = |uploads: &mut _| upload::take(uploads, &hash, total, offset, part, reserve);
            self.session.with_uploads(take).map(Some)
        });
        match taken {
            Err(error) => self.session.answer(request, Err(error)),
            Ok(None) => self.session.answer(request, received(total, true)),
            Ok(Some(Progress::Part(bytes))) => self.session.answer(request, received(bytes, false)),
            Ok(Some(Progress::Whole(whole))) => self.later(request, async move |context| {
                let _turn = context.hub.compile_turn(context.user()).await;
                let upload::Whole { bytes, reserved: _reserved } = whole;
                let kept = context.hub.runtime.keep_program(context.user(), &hash, bytes).await;
                kept.map_err(|error| upload_failure(&error))?;
                Ok(Answer::Received { bytes: total, complete: true })
            }),
        }
    }

    fn programs(&self) -> Answer {
        let runtime = &self.hub.runtime;
        let uploaded = runtime.uploaded(self.user()).into_iter();
        let uploaded = uploaded.map(|(name, hash)| ListedProgram {
            name,
            hash: Some(hash),
            source: ProgramSource::User,
        });
        let own = runtime.server_programs().into_iter();
        let own =
            own.map(|(name, hash)| ListedProgram { name: Some(name), hash, source: ProgramSource::Server });
        let mut programs: Vec<ListedProgram> = uploaded.chain(own).collect();
        programs.sort();
        Answer::Programs { programs }
    }

    fn launch(&self, request: u64, program: String, arguments: Vec<String>, detached: bool) {
        if let Err(error) = self.check_launch(&arguments) {
            return self.session.answer(request, Err(error));
        }
        if let Some(found) = self.hub.runtime.loaded_for(self.user(), &program) {
            return self.start(request, &found, arguments, detached);
        }
        let context = self.clone();
        tokio::spawn(async move {
            match context.hub.runtime.find_for(context.user(), &program).await {
                Ok(found) => context.start(request, &found, arguments, detached),
                Err(error) => context.session.answer(request, Err(program_failure(&error))),
            }
        });
    }

    /// Whether something may be launched now.
    fn check_launch(&self, arguments: &[String]) -> Result<(), Failure> {
        if !matches!(self.front.phase(), Phase::Ready(_)) {
            return Err(Failure::new(
                ErrorCode::Stopping,
                "the server is stopping and launches nothing more",
            ));
        }
        let (count, bytes) = (arguments.len(), arguments.iter().map(String::len).sum::<usize>());
        if count > ARGUMENTS || bytes > ARGUMENT_BYTES {
            let words = format!(
                "{count} arguments of {bytes} bytes are given, the limits are {ARGUMENTS} of {ARGUMENT_BYTES}"
            );
            return Err(Failure::new(ErrorCode::LimitExceeded, words));
        }
        self.hub.check_room(self.user())?;
        match self.session.client() {
            Some(client) => client.take_request().map_err(|refused| refused_failure(&refused)),
            None => Ok(()),
        }
    }

    fn start(&self, request: u64, program: &Arc<Program>, arguments: Vec<String>, detached: bool) {
        let (hub, session) = (&self.hub, &self.session);
        let options =
            LaunchOptions { arguments: arguments.clone(), user: self.user().to_string(), limits: None };
        let launched = match session.client() {
            Some(client) => hub.runtime.launch_under(program, options, &client.key.grant),
            None => hub.runtime.launch(program, options),
        };
        let inferlet = match launched {
            Ok(inferlet) => inferlet,
            Err(error) => return session.answer(request, Err(launch_failure(&error))),
        };
        let hosted = hub.host(inferlet, self.user(), program.label(), arguments, detached);
        let answer = Answer::Launched { inferlet: hosted.id.clone() };
        if detached {
            return session.answer(request, Ok(answer));
        }
        match session.attach(&hosted, Some(0)) {
            Ok((starts, _)) => session.answer_and_start(request, answer, starts),
            // The session ended meanwhile, and nobody knows of the inferlet.
            Err(_) => {
                hosted.control.kill();
                hub.remove(&hosted);
            }
        }
    }

    /// An inferlet with a log, by its id or a beginning of it.
    fn attachable(&self, id: &str) -> Result<Arc<super::hosted::Hosted>, Failure> {
        if let Some(hosted) = self.hub.find(self.user(), id).filter(|_| !id.is_empty()) {
            return Ok(hosted);
        }
        let is_there = self.hub.runtime.list_of(self.user()).iter().any(|info| info.id == id);
        let id = quoted(id);
        Err(match is_there {
            true => Failure::new(
                ErrorCode::NotAttachable,
                format!(
                    "inferlet {id} has no log: it answers an HTTP request, another program launched it, or it has just \
                    ended"
                ),
            ),
            false => Failure::new(
                ErrorCode::UnknownInferlet,
                format!(
                    "no single inferlet of the user has an id that begins with `{id}`; `list` has those there are"
                ),
            ),
        })
    }

    fn detach(&self, id: &str) -> Result<(), Failure> {
        let not_attached = || {
            Failure::new(
                ErrorCode::NotAttached,
                format!("the session is not attached to inferlet `{}`", quoted(id)),
            )
        };
        let hosted = self.session.detach(id).ok_or_else(not_attached)?;
        hosted.detach();
        hosted.log.detach(&self.session.id);
        Ok(())
    }

    fn send(&self, request: u64, id: &str, item: InputItem) {
        match self.attachable(id) {
            Ok(hosted) => self.session.send(request, &hosted, item),
            Err(error) => self.session.answer(request, Err(error)),
        }
    }

    fn terminate(&self, id: &str) -> Result<(), Failure> {
        match self.attachable(id) {
            Ok(hosted) => {
                hosted.control.kill();
                Ok(())
            }
            Err(_) if !id.is_empty() && self.hub.runtime.kill_of(self.user(), id) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads the program where it has not been loaded yet, so it takes its time; and it may be asked again.
    fn describe(&self, request: u64, program: String) {
        let context = self.clone();
        tokio::spawn(async move {
            let found = context.hub.runtime.find_for(context.user(), &program).await;
            let described = found.map_err(|error| program_failure(&error)).map(|found| {
                Answer::Described(DescribedProgram {
                    hash: found.hash().to_string(),
                    runs: found.runs(),
                    manifest: found.manifest().cloned(),
                })
            });
            context.session.answer_again(request, described);
        });
    }

    fn pages(&self, request: u64, inferlet: Option<String>) {
        let context = self.clone();
        tokio::spawn(async move {
            let _turn = context.hub.look_turn(context.user()).await;
            let models = context.hub.runtime.pages_of(context.user(), inferlet.as_deref()).await;
            let models = models.into_iter().map(model_pages).collect();
            context.session.answer_again(request, Ok(Answer::Pages { models }));
        });
    }

    fn list(&self) -> Answer {
        let hosted = self.hub.inferlets(self.user());
        let find = |id: &str| hosted.iter().find(|hosted| hosted.id == id);
        let running = self.hub.runtime.list_of(self.user());
        let of_runtime = running.iter().map(|info| {
            let hosted = find(&info.id);
            ListedInferlet {
                id: info.id.clone(),
                program: info.program.clone(),
                arguments: listed(&info.arguments),
                state: State::Running,
                attachable: hosted.is_some(),
                clients: hosted.map_or(0, |hosted| hosted.log.readers() as u32),
                age_ms: milliseconds(info.running),
                cpu_ms: milliseconds(info.cpu),
            }
        });
        let is_running = |id: &str| running.iter().any(|info| info.id == id);
        let ended = hosted.iter().filter(|hosted| !is_running(&hosted.id)).map(|hosted| ListedInferlet {
            id: hosted.id.clone(),
            program: hosted.program.clone(),
            arguments: listed(&hosted.arguments),
            state: State::Ended,
            attachable: true,
            clients: hosted.log.readers() as u32,
            age_ms: milliseconds(hosted.launched.elapsed()),
            cpu_ms: milliseconds(hosted.cpu()),
        });
        let mut inferlets: Vec<_> = of_runtime.chain(ended).collect();
        inferlets.sort_by(|one, other| one.id.cmp(&other.id));
        Answer::Inferlets { inferlets }
    }

    async fn stats(&self) -> Result<Answer, Failure> {
        if self.session.client().is_some_and(|client| !client.key.admin) {
            let words =
                "the key does not show the whole server: expected one made with `pie key add --admin`";
            return Err(Failure::new(ErrorCode::Forbidden, words));
        }
        let metrics = self.front.metrics().await;
        Ok(Answer::Stats { stats: serde_json::json!({ "metrics": metrics }) })
    }

    fn usage(&self) -> Answer {
        let taken = self.hub.runtime.usage_of(self.user());
        let of = |taken: Taken| Used { used: taken.taken, limit: taken.limit };
        let (events, most) = self.hub.event_bytes(self.user());
        Answer::Usage(Usage {
            user: self.user().to_string(),
            inferlets: of(taken.inferlets),
            memory_bytes: of(taken.memory_bytes),
            host_memory_bytes: of(taken.host_memory_bytes),
            program_bytes: of(taken.program_bytes),
            programs: of(taken.programs),
            event_bytes: Used { used: events, limit: most },
            tokens: self.session.client().map_or(0, |client: Arc<Client>| client.key.grant.tokens().get()),
        })
    }
}

fn model_pages(model: runtime::ModelPages) -> ModelPages {
    let inferlets = model.inferlets.into_iter().take(LISTED_INFERLETS).map(|one| InferletPages {
        inferlet: one.inferlet,
        contexts: one.pages.contexts,
        private: one.pages.private,
        shared: one.pages.shared,
        spilled: one.pages.spilled,
    });
    let contexts = model.contexts.into_iter().map(|one| ContextPages {
        context: one.context.0,
        parent: one.parent.map(|parent| parent.0),
        length: one.length,
        pages: one.pages,
        shared: one.shared_with_parent,
        spilled: one.spilled,
    });
    ModelPages {
        model: model.model,
        pool: model.pool,
        page_tokens: model.page_tokens,
        inferlets: inferlets.collect(),
        contexts: contexts.collect(),
        left_out: model.left_out,
    }
}

/// As many arguments as a list has room for.
fn listed(arguments: &[String]) -> Vec<String> {
    let mut left = LISTED_BYTES;
    let fits = |argument: &&String| {
        let fits = argument.len() <= left;
        left = left.saturating_sub(argument.len());
        fits
    };
    arguments.iter().take_while(fits).cloned().collect()
}

fn milliseconds(time: Duration) -> u64 {
    time.as_millis() as u64
}

fn program_failure(error: &ProgramError) -> Failure {
    let code = match error {
        ProgramError::Unknown { .. } => ErrorCode::UnknownProgram,
        ProgramError::Read { .. } => ErrorCode::Internal,
        _ => ErrorCode::InvalidProgram,
    };
    Failure::new(code, error.to_string())
}

fn upload_failure(error: &UploadError) -> Failure {
    let code = match error {
        UploadError::Program(error) => return program_failure(error),
        UploadError::HashMismatch { .. } => ErrorCode::HashMismatch,
        UploadError::Hash(_) | UploadError::Name(_) => ErrorCode::InvalidArgument,
        UploadError::NameTaken { .. } => ErrorCode::NameTaken,
        UploadError::Unknown(_) => ErrorCode::UnknownProgram,
        UploadError::Limit(_) => ErrorCode::LimitExceeded,
        UploadError::Storage { .. } => ErrorCode::Internal,
    };
    Failure::new(code, error.to_string())
}

fn launch_failure(error: &LaunchError) -> Failure {
    let code = match error {
        LaunchError::Overloaded(_) | LaunchError::TooDeep(_) | LaunchError::Memory { .. } => {
            ErrorCode::LimitExceeded
        }
        LaunchError::NotAllowed(_) => ErrorCode::ProgramNotAllowed,
        LaunchError::Revoked => ErrorCode::KeyRevoked,
        LaunchError::Arguments { .. } => ErrorCode::InvalidArgument,
        LaunchError::NoRun(_) | LaunchError::NoHandler(_) => ErrorCode::InvalidProgram,
    };
    Failure::new(code, error.to_string())
}

fn refused_failure(refused: &Refused) -> Failure {
    let retry_after_ms = match refused {
        Refused::Requests { after, .. } | Refused::Tokens { after, .. } => Some(milliseconds(*after) + 1),
        Refused::NoKey | Refused::WrongKey | Refused::Starting => None,
    };
    Failure { retry_after_ms, ..Failure::new(ErrorCode::RateLimited, refused.to_string()) }
}
