//! A Debian package (deb(5)): an `ar` archive of the format's version, the control files and the tree.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::archive::gzip_tar;
use super::{Needs, Packed, VERSION};
use crate::root;

/// Makes the user that the unit runs as (sysusers.d(5)).
const SYSUSERS: &str = "u pie - \"pie server\" /var/lib/pie\n";

/// What the unit reads, until the operator writes it.
const CONFIG: &str = "# Settings of `pie serve`: /usr/share/doc/pie/example_config.toml has them all.\n\
    # Before the first start: sudo -u pie PIE_HOME=/var/lib/pie pie key add NAME\n";

const AFTER_INSTALL: &str = "\
#!/bin/sh
set -e
if [ \"$1\" = configure ]; then
    if command -v systemd-sysusers >/dev/null; then systemd-sysusers pie.conf; fi
    if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
fi
";

const BEFORE_REMOVAL: &str = "\
#!/bin/sh
set -e
if [ \"$1\" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --now pie.service || true
fi
";

/// `pie_VERSION_PROCESSOR.deb`.
pub(super) fn write(folder: &Path, needs: &Needs, files: &[Packed]) -> Result<PathBuf> {
    let processor = match needs.processor {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let packed = |path: &str, text: &str, is_program| Packed {
        path: path.to_string(),
        bytes: text.as_bytes().to_vec(),
        is_program,
    };
    let unit = fs::read_to_string(root().join("docs/pie.service")).context("cannot read docs/pie.service")?;
    // What a package installs is not below /usr/local.
    let unit = unit.replace("/usr/local/bin/pie", "/usr/bin/pie");
    let more = [
        packed("usr/lib/systemd/system/pie.service", &unit, false),
        packed("usr/lib/sysusers.d/pie.conf", SYSUSERS, false),
        packed("etc/pie/config.toml", CONFIG, false),
    ];
    let tree = files.iter().map(|file| (format!("./usr/{}", file.path), file));
    let tree = tree.chain(more.iter().map(|file| (format!("./{}", file.path), file)));
    let mut data = Vec::new();
    gzip_tar(&mut data, tree)?;

    let kilobytes = files.iter().chain(&more).map(|file| file.bytes.len().div_ceil(1024)).sum::<usize>();
    let control = format!(
        "Package: pie\nVersion: {VERSION}\nArchitecture: {processor}\nMaintainer: the pie developers <pie@localhost>\n\
         Installed-Size: {kilobytes}\nDepends: libc6 (>= 2.{}), libgcc-s1\nRecommends: ca-certificates\nSection: net\n\
         Priority: optional\nDescription: programmable server of language models\n \
         Serves programs to language models: small WebAssembly programs run inside the\n \
         server, beside the KV cache, and drive each forward pass. The OpenAI API is\n \
         among them.\n",
        needs.glibc
    );
    let control = [
        packed("control", &control, false),
        packed("conffiles", "/etc/pie/config.toml\n", false),
        packed("postinst", AFTER_INSTALL, true),
        packed("prerm", BEFORE_REMOVAL, true),
    ];
    let mut about = Vec::new();
    gzip_tar(&mut about, control.iter().map(|file| (format!("./{}", file.path), file)))?;

    let path = folder.join(format!("pie_{VERSION}_{processor}.deb"));
    let mut ar = ar::Builder::new(File::create(&path)?);
    for (name, bytes) in
        [("debian-binary", &b"2.0\n"[..]), ("control.tar.gz", &about), ("data.tar.gz", &data)]
    {
        let mut header = ar::Header::new(name.as_bytes().to_vec(), bytes.len() as u64);
        header.set_mode(0o100_644);
        ar.append(&header, bytes)?;
    }
    Ok(path)
}
