//! `context`: bookkeeping of key/value pages. Nothing here waits for the engine but the named snapshots.
//!
//! The runtime tracks length and positions of each context, checks arguments against them, and sends the operation
//! to the engine without waiting. Operations and passes of an inferlet reach the engine in the order they were made.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use scheduler::{
    CacheSalt, CallError, ContextId, ContextInfo, ContextOp, EngineHandle, NewContext, Priority, SnapshotInfo,
};
use wasmtime::component::{Accessor, HasSelf, Resource};

use super::bindings::api::context;
use super::{Failure, HostState, call};
use crate::error::{ApiError, check_length, engine_gone, invalid};
use crate::host::model::ModelHandle;
use crate::inferlet::InferletState;
use crate::positions::Positions;
use crate::snapshot_files::snapshot_key;
use crate::tokens::Drawn;
use crate::{RuntimeState, ServedModel};

/// Bytes of a snapshot's name.
const NAME_BYTES: usize = 256;
/// Bytes of a salt.
const SALT_BYTES: usize = 1024;
/// Snapshots of one user.
const SNAPSHOTS: usize = 1024;

/// A program's handle to a context.
pub struct Context {
    pub(crate) id: ContextId,
    pub(crate) model: Arc<ServedModel>,
    /// The model's engine, on this inferlet's share of the inbox.
    pub(crate) engine: EngineHandle,
    pub(crate) priority: Priority,
    pub(crate) positions: Positions,
    /// What the pass in flight holds until it has ended.
    pub(crate) pass: Weak<()>,
    /// What its last pass drew, for the metrics.
    pub(crate) drawn: Drawn,
    /// What all contexts of the inferlet hold, those too that are being opened: so many there are.
    counted: Arc<()>,
}

impl Context {
    fn check_range(&self, range: &Range<u32>) -> Result<(), ApiError> {
        let length = self.positions.length();
        if range.start > range.end || range.end > length {
            return Err(invalid(format!(
                "tokens {} .. {} are asked for, the context has {length}",
                range.start, range.end
            )));
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<(), ApiError> {
    check_length("the name", name.len(), NAME_BYTES)
}

/// A context being saved, as it was when the program asked for it: what the program does with its own meanwhile does
/// not matter. Dropping it, however the call ends, leaves nothing of it behind.
struct SavedCopy {
    model: Arc<ServedModel>,
    engine: EngineHandle,
    context: ContextId,
}

impl SavedCopy {
    /// A key that no name of any user makes: it has no zero byte.
    fn hidden_key(&self) -> String {
        format!("saving {}", self.context.0)
    }

    async fn save_hidden(&self) -> Result<SnapshotInfo, Failure> {
        let saved = self.engine.save(self.context, self.hidden_key(), false).await.map_err(engine_gone)?;
        saved.map_err(|error| ApiError::from(error).into())
    }

    /// Saves it for its user, who has so many snapshots on disk that the engine does not have. The engine counts the
    /// others as it saves, so that calls under way together make no more than the limit.
    async fn save(
        &self,
        user: &str,
        key: String,
        persistent: bool,
        others_on_disk: usize,
    ) -> Result<(), Failure> {
        let (prefix, most) = (snapshot_key(user, ""), SNAPSHOTS.saturating_sub(others_on_disk));
        let saved = self.engine.save_within(self.context, key, persistent, prefix, most);
        match saved.await.map_err(engine_gone)?.map_err(ApiError::from)? {
            Some(_) => Ok(()),
            None => Err(too_many_snapshots().into()),
        }
    }
}

fn too_many_snapshots() -> ApiError {
    ApiError::LimitExceeded(format!("the user has {SNAPSHOTS} snapshots already"))
}

impl Drop for SavedCopy {
    fn drop(&mut self) {
        // Neither is ever refused.
        let _ = self.engine.apply(ContextOp::Drop { context: self.context });
        let _ = self.engine.apply(ContextOp::DropSnapshot { key: self.hidden_key() });
    }
}

/// A context being opened from a snapshot. Dropped before it is done, it goes from the engine as well.
struct Opening {
    engine: EngineHandle,
    context: NewContext,
    /// No longer, once it was dropped: a load that the engine comes to after that makes no context.
    wanted: Arc<AtomicBool>,
    /// See [`Context::counted`]: counted at once, so that no number of calls under way holds more than the limit.
    counted: Arc<()>,
    done: bool,
}

impl Opening {
    /// The program has its handle, or the engine has made none.
    fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.done {
            // First, so that what is loaded from now on is not opened, and what was loaded before is dropped.
            self.wanted.store(false, Ordering::Release);
            // Never refused. The engine ignores contexts that it does not know.
            let _ = self.engine.apply(ContextOp::Drop { context: self.context.id });
        }
    }
}

/// Opens a snapshot that only the disk has, if there is one. It is a task of its own, so that it comes to its end
/// whatever becomes of the program.
async fn load_from_disk(
    shared: &Arc<RuntimeState>,
    inferlet: &Arc<InferletState>,
    model: &Arc<ServedModel>,
    key: &str,
    opening: &Opening,
) -> Result<Option<ContextInfo>, ApiError> {
    let (shared, inferlet) = (shared.clone(), inferlet.clone());
    let (model, key) = (model.clone(), key.to_string());
    let (context, wanted) = (opening.context, opening.wanted.clone());
    let load = async move {
        let wanted = move || wanted.load(Ordering::Acquire);
        shared.snapshots.load(&shared.workers, &inferlet, &model, &key, context, wanted).await
    };
    tokio::spawn(load).await.map_err(|error| ApiError::Backend(error.to_string()))?
}

/// An error of a snapshot, by the name that the program gave it.
fn named(error: CallError, name: &str) -> ApiError {
    match error {
        CallError::NotFound(_) => ApiError::NotFound(format!("no snapshot is named `{name}`")),
        other => other.into(),
    }
}

impl HostState {
    /// The context, unless a pass is in flight on it.
    pub(crate) fn idle_context(&mut self, context: &Resource<Context>) -> Result<&mut Context, Failure> {
        let context = self.table.get_mut(context)?;
        match context.pass.upgrade() {
            Some(_) => Err(invalid("a pass of this context is being computed: await it first").into()),
            None => Ok(context),
        }
    }

    fn apply(engine: &EngineHandle, op: ContextOp) -> Result<(), ApiError> {
        engine.apply(op).map_err(|error| ApiError::LimitExceeded(error.to_string()))
    }

    fn check_contexts(&self) -> Result<(), ApiError> {
        let limit = self.inferlet.limits.contexts;
        // One holder is this.
        match Arc::strong_count(&self.contexts) > limit as usize {
            true => Err(ApiError::LimitExceeded(format!("this inferlet holds {limit} contexts, the limit"))),
            false => Ok(()),
        }
    }

    fn derive(
        &mut self,
        from: &Resource<Context>,
        op: impl FnOnce(ContextId, ContextId) -> ContextOp,
        positions: impl FnOnce(&Context) -> Result<Positions, ApiError>,
    ) -> Result<Resource<Context>, Failure> {
        self.check_contexts()?;
        let to = self.shared.next_context();
        let source = self.idle_context(from)?;
        let positions = positions(source)?;
        Self::apply(&source.engine, op(source.id, to))?;
        let context = Context {
            id: to,
            model: source.model.clone(),
            engine: source.engine.clone(),
            priority: source.priority,
            positions,
            pass: Weak::new(),
            drawn: source.drawn,
            counted: source.counted.clone(),
        };
        Ok(self.table.push(context)?)
    }
}

impl context::Host for HostState {
    fn set_cache_salt(&mut self, salt: String) -> Result<(), Failure> {
        check_length("the salt", salt.len(), SALT_BYTES)?;
        let hash = *blake3::hash(salt.as_bytes()).as_bytes();
        let (first, _) = hash.split_first_chunk().expect("a hash is longer");
        self.cache_salt = Some(CacheSalt(u128::from_le_bytes(*first)));
        Ok(())
    }
}

impl context::HostContext for HostState {
    fn create(&mut self, model: Resource<ModelHandle>) -> Result<Resource<Context>, Failure> {
        let _call = self.call("context.create", Vec::new);
        self.check_contexts()?;
        let model = self.table.get(&model)?.0.clone();
        let id = self.shared.next_context();
        let op = ContextOp::Create {
            context: id,
            owner: self.inferlet.owner,
            priority: Priority::Normal,
            tenant: self.inferlet.user.tenant,
        };
        let engine = model.engine.for_owner(self.inferlet.owner);
        Self::apply(&engine, op)?;
        if let Some(salt) = self.cache_salt
            && let Err(refused) = Self::apply(&engine, ContextOp::SetCacheSalt { context: id, salt })
        {
            // Never refused.
            let _ = engine.apply(ContextOp::Drop { context: id });
            return Err(refused.into());
        }
        let (priority, positions) = (Priority::Normal, Positions::default());
        let (pass, drawn, counted) = (Weak::new(), Drawn::default(), self.contexts.clone());
        Ok(self.table.push(Context { id, model, engine, priority, positions, pass, drawn, counted })?)
    }

    fn fork(&mut self, context: Resource<Context>) -> Result<Resource<Context>, Failure> {
        let _call = self.call("context.fork", Vec::new);
        self.derive(&context, |from, to| ContextOp::Fork { from, to }, |c| Ok(c.positions.clone()))
    }

    fn length(&mut self, context: Resource<Context>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&context)?.positions.length())
    }

    fn next_position(&mut self, context: Resource<Context>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&context)?.positions.next())
    }

    fn truncate(&mut self, context: Resource<Context>, length: u32) -> Result<(), Failure> {
        let _call = self.call("context.truncate", || vec![("length", length.into())]);
        let context = self.idle_context(&context)?;
        context.check_range(&(0..length))?;
        if length == context.positions.length() {
            return Ok(());
        }
        Self::apply(&context.engine, ContextOp::Truncate { context: context.id, length })?;
        context.positions.truncate(length);
        Ok(())
    }

    fn remove(&mut self, context: Resource<Context>, start: u32, end: u32) -> Result<(), Failure> {
        let _call = self.call("context.remove", || vec![("start", start.into()), ("end", end.into())]);
        let context = self.idle_context(&context)?;
        context.check_range(&(start..end))?;
        if start == end {
            return Ok(());
        }
        Self::apply(&context.engine, ContextOp::Remove { context: context.id, range: start..end })?;
        context.positions.remove(start..end);
        Ok(())
    }

    fn slice(
        &mut self,
        context: Resource<Context>,
        start: u32,
        end: u32,
    ) -> Result<Resource<Context>, Failure> {
        let _call = self.call("context.slice", || vec![("start", start.into()), ("end", end.into())]);
        let range = start..end;
        let op = |from, to| ContextOp::Slice { from, to, range: start..end };
        self.derive(&context, op, |c| c.check_range(&range).map(|()| c.positions.slice(range)))
    }

    fn append(&mut self, context: Resource<Context>, other: Resource<Context>) -> Result<(), Failure> {
        let _call = self.call("context.append", Vec::new);
        let (from, model, positions) = {
            let other = self.idle_context(&other)?;
            (other.id, other.model.clone(), other.positions.clone())
        };
        let context = self.idle_context(&context)?;
        if context.id == from {
            return Err(invalid("a context cannot be appended to itself: fork it first").into());
        }
        if !Arc::ptr_eq(&context.model, &model) {
            let (one, two) = (&context.model.name, &model.name);
            return Err(
                invalid(format!("the contexts belong to different models, `{one}` and `{two}`")).into()
            );
        }
        let length = u64::from(context.positions.length()) + u64::from(positions.length());
        let limit = model.facts.context_length;
        if length > u64::from(limit) {
            let reason = format!("the context would have {length} tokens, the model's limit is {limit}");
            return Err(ApiError::LimitExceeded(reason).into());
        }
        Self::apply(&context.engine, ContextOp::Append { to: context.id, from })?;
        context.positions.append(&positions);
        Ok(())
    }

    fn set_priority(
        &mut self,
        context: Resource<Context>,
        priority: context::Priority,
    ) -> wasmtime::Result<()> {
        let context = self.table.get_mut(&context)?;
        let priority = match priority {
            context::Priority::Low => Priority::Low,
            context::Priority::Normal => Priority::Normal,
            context::Priority::High => Priority::High,
        };
        // Refused only when the inbox is full; the order of service then stays as it was.
        let op = ContextOp::SetPriority { context: context.id, priority };
        if context.priority != priority && context.engine.apply(op).is_ok() {
            context.priority = priority;
        }
        Ok(())
    }

    fn drop(&mut self, context: Resource<Context>) -> wasmtime::Result<()> {
        let context = self.table.delete(context)?;
        // Never refused.
        let _ = context.engine.apply(ContextOp::Drop { context: context.id });
        Ok(())
    }
}

impl<T: Send + 'static> context::HostContextWithStore<T> for HasSelf<HostState> {
    async fn save(
        accessor: &Accessor<T, Self>,
        context: Resource<Context>,
        name: String,
        persistent: bool,
    ) -> Result<(), Failure> {
        let _call = call(accessor, "context.save", || {
            vec![("name", name.as_str().into()), ("persistent", u32::from(persistent).into())]
        });
        check_name(&name)?;
        let (shared, inferlet, copy) = accessor.with(|mut access| {
            let state = access.get();
            let (shared, inferlet) = (state.shared.clone(), state.inferlet.clone());
            if persistent {
                shared.snapshots.check_folder()?;
            }
            let to = shared.next_context();
            let context = state.idle_context(&context)?;
            HostState::apply(&context.engine, ContextOp::Fork { from: context.id, to })?;
            let (model, engine) = (context.model.clone(), context.engine.clone());
            Ok::<_, Failure>((shared, inferlet, SavedCopy { model, engine, context: to }))
        })?;
        let user = &inferlet.user.name;
        let (model, key) = (&copy.model, snapshot_key(user, &name));
        // Only counted: a list for each of many calls at once takes long to read, and is not stopped by a kill.
        let all = snapshot_key(user, "");
        let saved = copy.engine.saved(all.clone(), key.clone()).await;
        let saved = saved.map_err(engine_gone)?.map_err(ApiError::from)?;
        let (file, others_on_disk) = shared.snapshots.find_beside(model, &key, &all);
        if saved.count + others_on_disk >= SNAPSHOTS && saved.persistent.is_none() && file.is_none() {
            return Err(too_many_snapshots().into());
        }
        let mut written = None;
        if persistent {
            // On disk first, from a snapshot that no user sees: when that fails, all is as before.
            let hidden = copy.save_hidden().await?;
            written = Some(shared.snapshots.write(&shared.workers, &inferlet, model, &hidden, &key).await?);
        }
        let refused = copy.save(user, key.clone(), persistent, others_on_disk).await.err();
        match (written, file) {
            (Some(written), _) if refused.is_none() => {
                shared.snapshots.is_in_engine(model, &key, written);
            }
            // There was none.
            (Some(written), None) => shared.snapshots.remove_file(model, &key, written)?,
            // The engine has another in its place, which is not persistent.
            (None, Some(before)) if refused.is_none() => {
                shared.snapshots.remove_file(model, &key, before)?;
            }
            _ => {}
        }
        refused.map_or(Ok(()), Err)
    }
}

impl<T: Send + 'static> context::HostWithStore<T> for HasSelf<HostState> {
    async fn open(
        accessor: &Accessor<T, Self>,
        model: Resource<ModelHandle>,
        name: String,
    ) -> Result<Resource<Context>, Failure> {
        let _call = call(accessor, "context.open", || vec![("name", name.as_str().into())]);
        check_name(&name)?;
        let (shared, opening, model, inferlet, key) = accessor.with(|mut access| {
            let state = access.get();
            let model = state.table.get(&model)?.0.clone();
            state.check_contexts()?;
            let (shared, inferlet) = (state.shared.clone(), state.inferlet.clone());
            let engine = model.engine.for_owner(inferlet.owner);
            let (id, owner, tenant) = (shared.next_context(), inferlet.owner, inferlet.user.tenant);
            let context = NewContext { id, owner, priority: Priority::Normal, tenant };
            let (wanted, counted) = (Arc::new(true.into()), state.contexts.clone());
            let opening = Opening { engine, context, wanted, counted, done: false };
            let key = snapshot_key(&inferlet.user.name, &name);
            Ok::<_, Failure>((shared, opening, model, inferlet, key))
        })?;
        let NewContext { id, priority, .. } = opening.context;
        let opened = async {
            let opened = opening.engine.open(key.clone(), opening.context).await.map_err(engine_gone)?;
            if let Err(CallError::NotFound(_)) = opened
                && let Some(info) = load_from_disk(&shared, &inferlet, &model, &key, &opening).await?
            {
                return Ok(info);
            }
            opened.map_err(|error| named(error, &name))
        };
        let opened = opened.await;
        accessor.with(|mut access| {
            let state = access.get();
            let info = match opened {
                Ok(info) => info,
                Err(error) => {
                    opening.done();
                    return Err(error.into());
                }
            };
            let engine = opening.engine.clone();
            if let Some(salt) = state.cache_salt {
                HostState::apply(&engine, ContextOp::SetCacheSalt { context: id, salt })?;
            }
            let positions = Positions::of_runs(&info.positions, info.next_position);
            let (pass, drawn, counted) = (Weak::new(), Drawn::default(), opening.counted.clone());
            opening.done();
            Ok(state.table.push(Context { id, model, engine, priority, positions, pass, drawn, counted })?)
        })
    }

    async fn delete(
        accessor: &Accessor<T, Self>,
        model: Resource<ModelHandle>,
        name: String,
    ) -> Result<(), Failure> {
        let _call = call(accessor, "context.delete", || vec![("name", name.as_str().into())]);
        check_name(&name)?;
        let (shared, model, engine, key) = accessor.with(|mut access| {
            let state = access.get();
            let key = snapshot_key(&state.inferlet.user.name, &name);
            let model = state.table.get(&model)?.0.clone();
            let engine = model.engine.for_owner(state.inferlet.owner);
            Ok::<_, Failure>((state.shared.clone(), model, engine, key))
        })?;
        let in_engine = engine.has(key.clone()).await.map_err(engine_gone)?.map_err(ApiError::from)?;
        if !in_engine && shared.snapshots.find(&model, &key).is_none() {
            return Err(named(CallError::NotFound(key), &name).into());
        }
        Ok(shared.snapshots.remove(&model, &key)?)
    }

    async fn snapshots(
        accessor: &Accessor<T, Self>,
        model: Resource<ModelHandle>,
    ) -> Result<Vec<context::Snapshot>, Failure> {
        let _call = call(accessor, "context.snapshots", Vec::new);
        let (shared, model, engine, prefix) = accessor.with(|mut access| {
            let state = access.get();
            let (shared, prefix) = (state.shared.clone(), snapshot_key(&state.inferlet.user.name, ""));
            let model = state.table.get(&model)?.0.clone();
            let engine = model.engine.for_owner(state.inferlet.owner);
            Ok::<_, Failure>((shared, model, engine, prefix))
        })?;
        let saved = engine.list(prefix.clone()).await.map_err(engine_gone)?.map_err(ApiError::from)?;
        let on_disk = shared.snapshots.list(&model, &prefix).into_iter();
        let on_disk = on_disk.map(|(key, length)| (key, length, true));
        let saved = saved.into_iter().map(|info| (info.key, info.length, info.persistent));
        // By key: what both have is there once.
        let all = on_disk.chain(saved).map(|(key, length, persistent)| (key, (length, persistent)));
        let all: std::collections::BTreeMap<_, _> = all.collect();
        let snapshot = |(key, (length, persistent)): (String, (u32, bool))| context::Snapshot {
            name: key[prefix.len()..].to_string(),
            length,
            persistent,
        };
        Ok(all.into_iter().map(snapshot).collect())
    }
}
