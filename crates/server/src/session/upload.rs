//! Uploads that are not whole yet. They are in memory, on the account of their user, and gone with their session.

use std::collections::BTreeMap;

use protocol::{ErrorCode, Failure, Limits};
use runtime::Reserved;

/// Uploads of one session that are not whole.
const UPLOADS: usize = 16;

/// The beginning of a program.
pub(super) struct Upload {
    bytes: Vec<u8>,
    total: u64,
    reserved: Reserved,
}

/// A whole program; its bytes are on the account of its user until it is dropped.
pub(super) struct Whole {
    pub(super) bytes: Vec<u8>,
    pub(super) reserved: Reserved,
}

/// What a part made of an upload.
pub(super) enum Progress {
    /// So many bytes are there.
    Part(u64),
    Whole(Whole),
}

/// Takes in a part. `reserve` takes the bytes of a whole program from the account of its user.
pub(super) fn take(
    uploads: &mut BTreeMap<String, Upload>,
    hash: &str,
    total: u64,
    offset: u64,
    part: &[u8],
    reserve: impl FnOnce() -> Result<Reserved, Failure>,
) -> Result<Progress, Failure> {
    let wrong = |words: String| Err(Failure::new(ErrorCode::InvalidArgument, words));
    if part.is_empty() || part.len() as u64 > Limits::CHUNK_BYTES {
        let (found, most) = (part.len(), Limits::CHUNK_BYTES);
        return wrong(format!("a part of {found} bytes; expected 1 to {most}"));
    }
    if offset == 0 {
        // One that begins anew takes the place of what was there.
        uploads.remove(hash);
        if uploads.len() >= UPLOADS {
            let words =
                format!("{UPLOADS} uploads of this session are not whole, as many as may be; end one first");
            return Err(Failure::new(ErrorCode::LimitExceeded, words));
        }
        uploads.insert(hash.to_string(), Upload { bytes: Vec::new(), total, reserved: reserve()? });
    }
    let there = uploads.get(hash).map_or(0, |upload| upload.bytes.len() as u64);
    let Some(upload) = uploads.get_mut(hash).filter(|_| offset == there) else {
        let words = format!("a part begins at {offset}; expected {there}, where the one before ended");
        return Err(Failure::new(ErrorCode::WrongOffset, words));
    };
    let end = there + part.len() as u64;
    if upload.total != total || end > total {
        let said = upload.total;
        uploads.remove(hash);
        return wrong(format!(
            "a part ends at {end} of {total} bytes; expected {said} bytes in all, as was said first"
        ));
    }
    upload.bytes.extend_from_slice(part);
    if end < total {
        return Ok(Progress::Part(end));
    }
    let Upload { bytes, reserved, .. } = uploads.remove(hash).expect("it is there");
    Ok(Progress::Whole(Whole { bytes, reserved }))
}
