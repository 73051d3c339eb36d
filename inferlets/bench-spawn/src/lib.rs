//! Does nothing: the time from its launch to its end is what a launch costs.

use inferlet::Result;

#[inferlet::main]
async fn main() -> Result<String> {
    Ok(String::new())
}
