//! One component for all tests; the first argument names the case. A case that returns an error has failed,
//! unless the test on the host expects it to end otherwise.

mod adapters;
mod attacks;
mod awaits;
mod encoders;
mod errors;
mod hostile;
mod model;
mod random;
mod schemas;
mod talk;
mod web;

use inferlet::anyhow::bail;
use inferlet::{Parameters, Result};

/// What to do.
#[derive(Parameters)]
struct Options {
    /// How often, of `count`.
    #[parameter(short = 'n', default = 1, min = 1)]
    count: u8,
    /// What to do.
    #[parameter(positional)]
    case: Option<String>,
    /// What with.
    #[parameter(positional)]
    value: Option<String>,
    /// What else: it is a part of what `pages` writes.
    #[parameter(positional)]
    #[expect(dead_code, reason = "`pages` takes the arguments as they are")]
    name: Option<String>,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let (case, value) = (options.case.unwrap_or_default(), options.value.unwrap_or_default());
    match case.as_str() {
        "count" => Ok(options.count.to_string()),
        "hello" => Ok(format!("hello {value}")),
        "fail" => bail!("failed as asked"),
        "panic" => panic!("panicked as asked"),
        "spin" => hostile::spin(),
        "allocate" => hostile::allocate(),
        "flood" => hostile::flood().await,
        "huge-list" => hostile::huge_list().await,
        "contexts" => hostile::contexts(),
        "wait" => hostile::wait().await,
        "leak" => hostile::leak().await,
        "double" => hostile::double().await,
        "many-outputs" => hostile::outputs().await,
        "free-calls" => hostile::free_calls().await,
        "nothing-allowed" => hostile::nothing_allowed().await,
        "nest" => hostile::nest(&value).await,
        "generate" => model::generate(&value).await,
        "seeded" => model::seeded(&value).await,
        "hold" => model::hold().await,
        "pages" => model::pages(&value).await,
        "chunks" => model::chunks().await,
        "outputs" => model::outputs().await,
        "masks" => model::masks().await,
        "remove" => model::remove().await,
        "embeds" => model::embeds().await,
        "encoder" => encoders::reads().await,
        "cancel" => model::cancel().await,
        "many" => model::many().await,
        "grammar" => model::grammar().await,
        "accepted" => schemas::accepted().await,
        "schemas" => schemas::answers(&value).await,
        "stop" => model::stop().await,
        "full" => model::full().await,
        "unseeded" => model::unseeded().await,
        "penalties" => model::penalties().await,
        "drafts" => model::drafts().await,
        "inject" => model::inject().await,
        "attack" => attacks::run(&value).await,
        "decode" => attacks::decode(&value).await,
        "awaits" => awaits::run(&value).await,
        "random" => random::run(&value).await,
        "save" => model::save(&value).await,
        "open" => model::open(&value).await,
        "open-given-up" => model::open_given_up(&value).await,
        "adapted" => adapters::adapted().await,
        "errors" => errors::all().await,
        "echo" => talk::echo().await,
        "put" => talk::put(&value).await,
        "got" => talk::got(&value).await,
        "store" => talk::store().await,
        "topics" => talk::topics(&value).await,
        "queues" => talk::queues().await,
        "launch" => talk::launch(&value).await,
        "crowd" => talk::crowd(&value).await,
        "sleep" => talk::sleep().await,
        "fetch" => web::fetch(&value).await,
        "upload" => web::upload(&value).await,
        unknown => bail!("no test case `{unknown}`"),
    }
}
