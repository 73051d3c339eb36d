//! Tarballs.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::{Needs, Packed, VERSION, mode};

/// `pie-VERSION-PROCESSOR-linux.tar.gz`, with one folder of that name.
pub(super) fn write(folder: &Path, needs: &Needs, files: &[Packed]) -> Result<PathBuf> {
    let name = format!("pie-{VERSION}-{}-linux", needs.processor);
    let path = folder.join(format!("{name}.tar.gz"));
    gzip_tar(File::create(&path)?, files.iter().map(|file| (format!("{name}/{}", file.path), file)))?;
    Ok(path)
}

/// Writes files and the folders above them: of the superuser and of no date, so that the same files are the same bytes.
pub(super) fn gzip_tar<'a>(to: impl Write, files: impl Iterator<Item = (String, &'a Packed)>) -> Result<()> {
    let mut tar = Builder::new(GzEncoder::new(to, Compression::best()));
    let mut folders = BTreeSet::new();
    let header = |kind, mode, bytes: usize| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes as u64);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header
    };
    for (path, file) in files {
        for (end, _) in path.match_indices('/') {
            if folders.insert(path[..=end].to_string()) {
                let mut header = header(EntryType::Directory, 0o755, 0);
                tar.append_data(&mut header, &path[..=end], std::io::empty())?;
            }
        }
        let mut header = header(EntryType::Regular, mode(file.is_program), file.bytes.len());
        tar.append_data(&mut header, &path, &file.bytes[..])?;
    }
    tar.into_inner()?.finish()?.flush()?;
    Ok(())
}
