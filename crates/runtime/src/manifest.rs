//! What a program says of itself, found in its WebAssembly: the custom section that `#[inferlet::main]` puts there.
//!
//! A component has core modules in it, and the linker leaves the section in one of them. So sections are walked, those
//! inside of others too; their contents are not looked at.

use inferlet_manifest::{Manifest, SECTION};

/// Bytes of all sections of this name at most.
const SECTION_BYTES: usize = 64 << 10;
/// A component may be in a component, and so on; a program's own module is in the outermost or one below.
const DEPTH: u32 = 4;
/// Bytes before the first section: the magic number and the version.
const HEADER: usize = 8;

/// Ids of sections: of a component, and of a core module the first.
const CUSTOM: u8 = 0;
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;

/// The manifest of a component; none where it has none. Whether it is a component is not looked at.
///
/// # Errors
/// When it has one that is not sound: in words.
pub fn read(wasm: &[u8]) -> Result<Option<Manifest>, String> {
    let mut found = Vec::new();
    walk(wasm, true, DEPTH, &mut found)?;
    // One for each entry: the one that says what arguments the program takes goes before.
    let manifests = serde_json::Deserializer::from_slice(&found).into_iter::<Manifest>();
    let manifests = manifests.collect::<Result<Vec<_>, _>>();
    let manifests = manifests.map_err(|error| format!("the section `{SECTION}` is no manifest: {error}"))?;
    let manifest = manifests.into_iter().reduce(|one, other| match one.parameters {
        Some(_) => one,
        None => other,
    });
    if let Some(manifest) = &manifest {
        manifest.check_itself().map_err(|words| format!("the section `{SECTION}`: {words}"))?;
    }
    Ok(manifest)
}

/// Collects the custom sections of that name in a component or a core module.
fn walk(wasm: &[u8], is_component: bool, depth: u32, found: &mut Vec<u8>) -> Result<(), String> {
    let mut left = wasm.get(HEADER..).unwrap_or_default();
    while let Some((&id, rest)) = left.split_first() {
        // What is cut off is the compiler's to refuse.
        let Some((length, rest)) = number(rest) else { return Ok(()) };
        let Some((section, after)) = rest.split_at_checked(length) else { return Ok(()) };
        left = after;
        match id {
            CUSTOM => {
                let named = number(section).and_then(|(length, rest)| rest.split_at_checked(length));
                let Some((_, contents)) = named.filter(|(name, _)| *name == SECTION.as_bytes()) else {
                    continue;
                };
                if found.len() + contents.len() > SECTION_BYTES {
                    return Err(format!("the section `{SECTION}` is longer than {SECTION_BYTES} bytes"));
                }
                found.extend(contents);
            }
            CORE_MODULE if is_component => walk(section, false, depth, found)?,
            COMPONENT if is_component && depth > 0 => walk(section, true, depth - 1, found)?,
            _ => {}
        }
    }
    Ok(())
}

/// A number of 32 bits as WebAssembly writes it (LEB128), and what is behind it.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).ok()?;
            return Some((value as usize, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"{"name":"drafts","version":"0.1.0","description":"Writes drafts"}"#;

    fn length(mut value: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    fn section(id: u8, contents: &[u8]) -> Vec<u8> {
        [vec![id], length(contents.len()), contents.to_vec()].concat()
    }

    fn custom(name: &str, contents: &str) -> Vec<u8> {
        section(CUSTOM, &[length(name.len()), name.into(), contents.into()].concat())
    }

    fn wasm(sections: &[Vec<u8>]) -> Vec<u8> {
        [&[0; HEADER][..], &sections.concat()].concat()
    }

    #[test]
    fn it_is_found_in_a_module_of_a_component() {
        let module = wasm(&[custom("name", "x"), custom(SECTION, MANIFEST)]);
        let inner = wasm(&[section(9, b"what"), section(CORE_MODULE, &module)]);
        for component in [wasm(&[section(CORE_MODULE, &module)]), wasm(&[section(COMPONENT, &inner)])] {
            let manifest = read(&component).unwrap().unwrap();
            assert_eq!((&*manifest.name, manifest.parameters), ("drafts", None));
        }
        assert_eq!(read(&wasm(&[custom("other", MANIFEST)])), Ok(None));
    }

    #[test]
    fn that_which_declares_parameters_goes_before() {
        let full = MANIFEST.replace('}', r#","parameters":[]}"#);
        for sections in [[MANIFEST, &full], [&full, MANIFEST]] {
            let module = wasm(&sections.map(|json| custom(SECTION, json)));
            let manifest = read(&wasm(&[section(CORE_MODULE, &module)])).unwrap().unwrap();
            assert!(manifest.parameters.is_some());
        }
    }

    #[test]
    fn what_is_not_sound_is_refused_in_words() {
        let said = |json: &str| read(&wasm(&[custom(SECTION, json)])).unwrap_err();
        assert!(said("{").contains("is no manifest"));
        assert!(said(&MANIFEST.replace("drafts", "a b")).contains("expected 1 to 64 letters"));
        assert!(said(&" ".repeat(SECTION_BYTES + 1)).contains("longer than"));
    }

    #[test]
    fn damaged_bytes_are_no_panic() {
        let module = wasm(&[custom(SECTION, MANIFEST)]);
        let component = wasm(&[section(COMPONENT, &wasm(&[section(CORE_MODULE, &module)]))]);
        for end in 0..component.len() {
            let _ = read(&component[..end]);
        }
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut bytes = component.clone();
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
            let _ = read(&bytes);
        }
    }
}
