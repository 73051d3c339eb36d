//! `runtime`: the inferlet itself, and the programs it launches.

use std::sync::Arc;

use wasmtime::component::{Accessor, HasSelf, Resource};

use super::bindings::api::runtime;
use super::{Failure, HostState, call};
use crate::error::{ApiError, check_length, engine_gone, invalid};
use crate::inferlet::Waiting;
use crate::process::{ARGUMENT_BYTES, ARGUMENTS};
use crate::{Inferlet, LaunchError, LaunchOptions, ProgramError, Runtime, process};

/// A program's handle to an inferlet that it launched.
pub struct Child(Arc<Inferlet>);

impl runtime::Host for HostState {
    fn arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.inferlet.arguments.clone())
    }

    fn instance_id(&mut self) -> wasmtime::Result<String> {
        Ok(self.inferlet.id.clone())
    }

    fn user(&mut self) -> wasmtime::Result<String> {
        Ok(self.inferlet.user.name.clone())
    }

    fn version(&mut self) -> wasmtime::Result<String> {
        Ok(env!("CARGO_PKG_VERSION").to_string())
    }

    fn detach(&mut self) -> wasmtime::Result<()> {
        self.inferlet.detach();
        Ok(())
    }
}

impl runtime::HostChild for HostState {
    fn id(&mut self, child: Resource<Child>) -> wasmtime::Result<String> {
        Ok(self.table.get(&child)?.0.id().to_string())
    }

    fn cancel(&mut self, child: Resource<Child>) -> wasmtime::Result<()> {
        self.table.get(&child)?.0.kill();
        Ok(())
    }

    fn drop(&mut self, child: Resource<Child>) -> wasmtime::Result<()> {
        self.table.delete(child)?;
        Ok(())
    }
}

impl<T: Send + 'static> runtime::HostWithStore<T> for HasSelf<HostState> {
    async fn usage(accessor: &Accessor<T, Self>) -> Result<runtime::Limits, Failure> {
        let _call = call(accessor, "runtime.usage", Vec::new);
        let (shared, inferlet) = accessor.with(|mut access| {
            let state = access.get();
            (state.shared.clone(), state.inferlet.clone())
        });
        let (mut pages, mut pages_used) = (0, 0);
        for model in &shared.models {
            // Behind what it did before.
            let engine = model.engine.for_owner(inferlet.owner);
            let used = engine.usage(inferlet.owner).await.map_err(engine_gone)?.map_err(ApiError::from)?;
            pages_used += used;
            pages += inferlet.limits.pages.unwrap_or(model.engine.limits().pages);
        }
        let cpu_left = inferlet.limits.cpu.map(|limit| limit.saturating_sub(inferlet.cpu.spent()));
        Ok(runtime::Limits {
            pages,
            pages_used,
            memory_bytes: inferlet.limits.memory_bytes as u64,
            cpu_ms: cpu_left.map(|left| left.as_millis() as u64),
            output_bytes: inferlet.output_left(),
        })
    }

    async fn launch(
        accessor: &Accessor<T, Self>,
        program: String,
        arguments: Vec<String>,
    ) -> Result<Resource<Child>, Failure> {
        let _call = call(accessor, "runtime.launch", || vec![("program", program.as_str().into())]);
        check_length("the arguments", arguments.iter().map(String::len).sum(), ARGUMENT_BYTES)?;
        if arguments.len() > ARGUMENTS {
            let reason = format!("{} arguments are given, the limit is {ARGUMENTS}", arguments.len());
            return Err(ApiError::LimitExceeded(reason).into());
        }
        let (shared, inferlet) = accessor.with(|mut access| {
            let state = access.get();
            (state.shared.clone(), state.inferlet.clone())
        });
        let runtime = Runtime(shared);
        let found = runtime.find_for(&inferlet.user.name, &program).await.map_err(|error| match error {
            ProgramError::Unknown { .. } => ApiError::NotFound(error.to_string()),
            // The server's folder of programs, not the caller, is to blame.
            ProgramError::Read { .. } => ApiError::Backend(error.to_string()),
            _ => invalid(error.to_string()),
        })?;
        let options = LaunchOptions {
            arguments,
            user: inferlet.user.name.clone(),
            limits: Some(inferlet.limits.clone()),
        };
        let child = process::launch(&runtime.0, &found, options, None, Some(&inferlet));
        let mut child = child.map_err(|error| match error {
            LaunchError::NoRun(_) | LaunchError::NoHandler(_) | LaunchError::Arguments { .. } => {
                invalid(error.to_string())
            }
            LaunchError::NotAllowed(_) | LaunchError::Revoked => ApiError::Denied(error.to_string()),
            LaunchError::Overloaded(_) | LaunchError::TooDeep(_) | LaunchError::Memory { .. } => {
                ApiError::LimitExceeded(error.to_string())
            }
        })?;
        // Nobody reads a child's messages or sends it any; its result is what counts.
        child.discard_events();
        child.take_input();
        accessor.with(|mut access| Ok(access.get().table.push(Child(Arc::new(child)))?))
    }
}

impl<T: Send + 'static> runtime::HostChildWithStore<T> for HasSelf<HostState> {
    async fn wait(accessor: &Accessor<T, Self>, child: Resource<Child>) -> Result<String, Failure> {
        let (child, shared, inferlet) = accessor.with(|mut access| {
            let state = access.get();
            let child = state.table.get(&child)?.0.clone();
            Ok::<_, Failure>((child, state.shared.clone(), state.inferlet.clone()))
        })?;
        let _call = call(accessor, "runtime.wait", || vec![("child", child.id().into())]);
        // The child needs a place too: one that only waits holds none.
        let waiting = Waiting::begin(&shared.places, &shared.waiting_places, &inferlet).ok_or_else(|| {
            ApiError::LimitExceeded("too many inferlets wait for one that they launched".into())
        })?;
        let outcome = child.outcome().await;
        waiting.end().await;
        outcome.map_err(|error| ApiError::Closed(error.to_string()).into())
    }
}
