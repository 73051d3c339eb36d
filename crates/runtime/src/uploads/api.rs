//! Uploaded programs as the server's sessions ask for them.

use std::sync::Arc;

use super::{NAME_BYTES, UploadError, Uploads, check_hash, is_hash};
use crate::Runtime;
use crate::account::Taken;
use crate::grant::Grant;
use crate::program::{Program, ProgramError, Programs};

/// What the server holds for somebody until it is dropped, on the account of a grant.
pub struct Reserved(#[expect(dead_code, reason = "dropping it gives the bytes back")] Taken);

impl Runtime {
    /// A program as a user names it: by a name of the server's; by `NAME@VERSION` or `NAME` of those that the user has
    /// installed, of which that which was installed last is meant; by the hash of one of these. A version of the user's goes
    /// before one of the server's.
    ///
    /// # Errors
    /// When there is none; the error lists the names there are.
    pub async fn find_for(&self, user: &str, name: &str) -> Result<Arc<Program>, ProgramError> {
        // Only a program that is not loaded needs a file, and a thread that may wait for it.
        if let Some(program) = self.loaded_for(user, name) {
            return Ok(program);
        }
        let (user, name, runtime) = (user.to_string(), name.to_string(), self.clone());
        let find = move |programs: &Programs| {
            if !is_hash(&name) && !name.contains('@') && programs.has_name(&name) {
                return programs.find(&name);
            }
            runtime.0.uploads.find(programs, &user, &name).unwrap_or_else(|| {
                if programs.has_name(&name) {
                    return programs.find(&name);
                }
                let of_user = runtime.0.uploads.list(&user).into_iter().filter_map(|(name, _)| name);
                let known = programs.names().into_iter().chain(of_user).collect::<Vec<_>>().join(", ");
                let name = name.chars().take(NAME_BYTES).collect();
                Err(ProgramError::Unknown { name, known })
            })
        };
        self.blocking(find).await
    }

    /// The same, where no file has to be read.
    pub fn loaded_for(&self, user: &str, name: &str) -> Option<Arc<Program>> {
        let programs = &self.0.programs;
        if is_hash(name) {
            let of_user = self.0.uploads.loaded(programs, user, name);
            return of_user.or_else(|| programs.loaded_server_hash(name));
        }
        if name.contains('@') {
            let of_user = self.0.uploads.loaded(programs, user, name);
            // A file of the user's that is to be read goes before what the server has loaded.
            return match self.0.uploads.has_name(user, name) {
                true => of_user,
                false => programs.loaded_name(name),
            };
        }
        let of_server = programs.loaded_name(name);
        // A name of the server's goes before, whether it is loaded or not.
        match of_server {
            None if !programs.has_name(name) => self.0.uploads.loaded(programs, user, name),
            of_server => of_server,
        }
    }

    /// Whether a user has uploaded a program of this hash, so can name it and launch it by its hash. Those of the server's
    /// are known by their names.
    pub fn has_program(&self, user: &str, hash: &str) -> bool {
        self.0.uploads.has(user, hash)
    }

    /// Refuses a program of so many bytes where its user has no room for it.
    ///
    /// # Errors
    /// `Limit`; and `Hash` for what is none.
    pub fn check_upload(&self, user: &str, hash: &str, bytes: u64) -> Result<(), UploadError> {
        check_hash(hash)?;
        self.0.uploads.check_room(user, bytes)
    }

    /// Checks, compiles and keeps a program for a user, who can then launch it by its hash. It is on disk when this
    /// returns.
    ///
    /// # Errors
    /// When the bytes are no program or have another hash, and when the user has too many.
    pub async fn keep_program(&self, user: &str, hash: &str, wasm: Vec<u8>) -> Result<(), UploadError> {
        let (user, hash) = (user.to_string(), hash.to_string());
        self.on_disk(move |uploads, programs| uploads.keep(programs, &user, &hash, &wasm)).await
    }

    /// Gives a program of a user a name, `NAME@VERSION`. It is on disk when this returns.
    ///
    /// # Errors
    /// When the name is none or stands for another program, and when there is no such program.
    pub async fn install_program(&self, user: &str, hash: &str, name: &str) -> Result<(), UploadError> {
        let (user, hash, name) = (user.to_string(), hash.to_string(), name.to_string());
        self.on_disk(move |uploads, _| uploads.install(&user, &hash, &name)).await
    }

    /// Takes a name of a user away, or by hash a program with all its names. What runs goes on.
    ///
    /// # Errors
    /// When there is no such program.
    pub async fn remove_program(&self, user: &str, program: &str) -> Result<(), UploadError> {
        let (user, program) = (user.to_string(), program.to_string());
        self.on_disk(move |uploads, _| uploads.remove(&user, &program)).await
    }

    async fn on_disk(
        &self,
        work: impl FnOnce(&Uploads, &Programs) -> Result<(), UploadError> + Send + 'static,
    ) -> Result<(), UploadError> {
        let shared = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&shared.uploads, &shared.programs)).await;
        done.unwrap_or_else(|error| Err(ProgramError::Compile(error.to_string()).into()))
    }

    /// The programs that a user has uploaded: each hash, without a name, and each name with its hash.
    pub fn uploaded(&self, user: &str) -> Vec<(Option<String>, String)> {
        self.0.uploads.list(user)
    }

    /// The server's programs by name, with the hashes of those that are loaded.
    pub fn server_programs(&self) -> Vec<(String, Option<String>)> {
        let programs = &self.0.programs;
        let hash = |name: &str| programs.loaded_name(name).map(|program| program.hash().to_string());
        programs.names().into_iter().map(|name| (name.clone(), hash(&name))).collect()
    }

    /// Takes so many bytes of what the server may hold for the programs of a grant, or of a user without one.
    ///
    /// # Errors
    /// When these have too many already: which limit, in words.
    pub fn reserve(&self, user: &str, grant: Option<&Grant>, bytes: u64) -> Result<Reserved, String> {
        let user = self.0.users.of(user);
        let account = grant.map_or(&user.host_memory, |grant| &grant.host_memory);
        account.take(bytes).map(Reserved).map_err(|error| error.to_string())
    }
}
