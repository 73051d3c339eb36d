//! The arguments of a program before its launch: its help, its errors, and the texts of files.

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use runtime::{ARGUMENT_BYTES, Given, Kind, Manifest, Runtime, RuntimeConfig, read_arguments};

use super::find_program;
use crate::bundled;
use crate::home::{Home, program_folders};

/// What is to be done with the arguments of a program.
#[derive(Debug)]
pub(super) enum Prepared {
    /// They ask for its help, which is this.
    Help(String),
    /// It is launched with these.
    Arguments(Vec<String>),
}

/// A runtime without models, which knows the programs of this machine.
///
/// # Errors
/// When the runtime does not start.
pub(crate) async fn library() -> Result<Runtime> {
    let home = Home::find()?;
    let config = RuntimeConfig {
        cache: Some(home.cache()),
        programs: program_folders(&home),
        bundled: bundled::PROGRAMS,
        ..RuntimeConfig::default()
    };
    Ok(Runtime::start(config, Vec::new()).await?)
}

/// What a program on this machine says of itself, by file or by name.
///
/// # Errors
/// When there is no such program, or this version of pie does not run it.
pub(super) async fn manifest(program: &str) -> Result<Option<Manifest>> {
    Ok(find_program(&library().await?, program).await?.manifest().cloned())
}

/// Compares arguments with what a program takes, and reads the files that it takes the texts of.
///
/// # Errors
/// When it does not take them, or a file cannot be read.
pub(super) fn prepare(manifest: Option<&Manifest>, name: &str, arguments: &[String]) -> Result<Prepared> {
    let declared = manifest.and_then(|manifest| Some((manifest, manifest.parameters.as_deref()?)));
    let Some((manifest, parameters)) = declared else { return Ok(Prepared::Arguments(arguments.to_vec())) };
    let way_out = || format!("the arguments of `{name}`; `pie run {name} --help` shows what it takes");
    let values = match read_arguments(parameters, arguments).with_context(way_out)? {
        Given::Help => return Ok(Prepared::Help(manifest.help(&format!("pie run {name} --")))),
        Given::Values(values) => values,
    };
    let is_file = |index: usize| parameters[index].kind == Kind::File && values.given[index].is_some();
    if !(0..parameters.len()).any(is_file) {
        return Ok(Prepared::Arguments(arguments.to_vec()));
    }
    let with_texts = values.arguments(|parameter, value| match parameter.kind {
        Kind::File => {
            read_text(Path::new(value)).map(Cow::Owned).with_context(|| format!("`--{}`", parameter.name))
        }
        _ => Ok(Cow::Borrowed(value)),
    });
    Ok(Prepared::Arguments(with_texts?))
}

fn read_text(path: &Path) -> Result<String> {
    let read = || -> Result<String> {
        let bytes = std::fs::metadata(path)?.len();
        if bytes > ARGUMENT_BYTES as u64 {
            return Err(anyhow!("the file has {bytes} bytes, the limit of arguments is {ARGUMENT_BYTES}"));
        }
        String::from_utf8(std::fs::read(path)?).map_err(|_| anyhow!("the file is no text in UTF-8"))
    };
    read().with_context(|| format!("cannot read `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let parameter = |name: &str, kind: &str| serde_json::json!({"name": name, "about": "what it is", "kind": {"type": kind}});
        let parameters = [parameter("story", "file"), parameter("check", "boolean")];
        let manifest = serde_json::json!({"name": "teller", "version": "0.1.0", "parameters": parameters});
        serde_json::from_value(manifest).unwrap()
    }

    fn prepared(arguments: &[&str]) -> Result<Prepared> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        prepare(Some(&manifest()), "teller", &arguments)
    }

    #[test]
    fn a_program_gets_the_text_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("story.txt");
        std::fs::write(&file, "Once\nupon a time").unwrap();
        let Ok(Prepared::Arguments(given)) = prepared(&["--check", "--story", file.to_str().unwrap()]) else {
            panic!("the file is there")
        };
        assert_eq!(given, ["--story=Once\nupon a time", "--check=true"]);

        let said = |arguments: &[&str]| format!("{:#}", prepared(arguments).unwrap_err());
        assert!(said(&["--story", "/no/such/file"]).contains("`--story`: cannot read `/no/such/file`"));
        std::fs::write(&file, [0xff]).unwrap();
        assert!(said(&["--story", file.to_str().unwrap()]).contains("no text in UTF-8"));
        std::fs::write(&file, vec![b'a'; ARGUMENT_BYTES + 1]).unwrap();
        assert!(said(&["--story", file.to_str().unwrap()]).contains("the limit of arguments is 1048576"));
    }

    #[test]
    fn what_a_program_does_not_take_is_said_before_its_launch() {
        let said = format!("{:#}", prepared(&["--chekc"]).unwrap_err());
        assert!(
            said.contains("pie run teller --help") && said.contains("unknown argument `--chekc`"),
            "{said}"
        );
        let Ok(Prepared::Help(help)) = prepared(&["--help"]) else { panic!("help is asked for") };
        assert!(help.contains("Usage: pie run teller -- [OPTIONS]"), "{help}");
        let anything = vec!["--what".to_string()];
        assert!(
            matches!(prepare(None, "other", &anything), Ok(Prepared::Arguments(given)) if given == anything)
        );
    }
}
