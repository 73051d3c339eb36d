//! Programs that take more than they should.

use inferlet::bindings::pie::inferlet::forward::{self, Input, Pass};
use inferlet::{Context, Model, Result, session, sleep};

pub fn spin() -> Result<String> {
    let mut x = 1u64;
    loop {
        x = std::hint::black_box(x.wrapping_mul(3));
    }
}

pub fn allocate() -> Result<String> {
    let mut all = Vec::new();
    loop {
        all.push(std::hint::black_box(vec![1u8; 1 << 20]));
    }
}

/// Sends until it is refused; the refusal is the result.
pub async fn flood() -> Result<String> {
    loop {
        session::send("x".repeat(1 << 16)).await?;
    }
}

/// A list whose length says 2^31 tokens.
pub async fn huge_list() -> Result<String> {
    let model = Model::open_default()?;
    let context = Context::new(&model)?;
    let tokens = std::mem::ManuallyDrop::new(vec![1u32; 4]);
    // SAFETY: it is not safe; the host must refuse the length before anybody reads it. Nothing here reads or
    // frees it.
    let lie = unsafe { Vec::from_raw_parts(tokens.as_ptr().cast_mut(), 1 << 31, 1 << 31) };
    let lie = std::mem::ManuallyDrop::new(lie);
    let input = Input::Tokens(unsafe { std::ptr::read(&*lie) });
    let pass = Pass { input, positions: None, masks: None, adapter: None, keep: true, outputs: Vec::new() };
    let answer = forward::execute(context.handle(), pass).await;
    Ok(format!("{answer:?}"))
}

/// Contexts until they are refused.
pub fn contexts() -> Result<String> {
    let model = Model::open_default()?;
    let mut held = Vec::new();
    loop {
        held.push(Context::new(&model)?);
    }
}

/// A pass after the other, for ever; killed by the test in the middle of one.
pub async fn wait() -> Result<String> {
    let model = Model::open_default()?;
    let mut context = Context::new(&model)?;
    context.append("a prompt of some length, so that it holds pages");
    context.prefill().await?;
    session::send("started".to_string()).await?;
    loop {
        context.append("more");
        context.prefill().await?;
        if context.tokens().len() > 500 {
            context.truncate(8)?;
        }
    }
}

/// Ends with contexts and passes in use.
pub async fn leak() -> Result<String> {
    let model = Model::open_default()?;
    let mut context = Context::new(&model)?;
    context.append(&"words ".repeat(40));
    context.prefill().await?;
    for _ in 0..8 {
        std::mem::forget(context.fork()?);
    }
    std::mem::forget(context);
    sleep(std::time::Duration::from_millis(1)).await;
    Ok("leaked".into())
}
