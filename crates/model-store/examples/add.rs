//! Adds a model to a store and opens it: `cargo run -p model-store --example add -- FOLDER NAME`.
#![expect(clippy::print_stdout, reason = "an example for the terminal")]

use std::path::Path;

use model::Model;
use model_store::{DEFAULT_MODEL, ModelStore, StoreSettings};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("the first argument is the folder of the store")?;
    let name = arguments.next().unwrap_or_else(|| DEFAULT_MODEL.to_owned());
    let store = ModelStore::open(Path::new(&folder), StoreSettings::default())?;
    let manifest = store.add(&name, &mut |step| {
        println!("{:?} {}: {} of {:?} bytes", step.phase, step.item, step.bytes_done, step.bytes_total);
    })?;
    println!("{manifest:?}");
    let model = Model::open(&store.resolve(&manifest.name)?)?;
    println!("{} with {} parameters: {:?}", model.name, model.weights.parameters(), model.hyperparameters);
    Ok(())
}
