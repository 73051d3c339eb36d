//! Programs that take more than they should.

use inferlet::anyhow::ensure;
use inferlet::bindings::pie::inferlet::context::Priority;
use inferlet::bindings::pie::inferlet::forward::{self, Input, Output, OutputKind, OutputRequest, Pass};
use inferlet::bindings::pie::inferlet::runtime;
use inferlet::{Context, Model, Result, SamplingParams, session, sleep};

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

/// Appends a context to itself, so to speak, until it is refused: each turn doubles its length.
pub async fn double() -> Result<String> {
    let model = Model::open_default()?;
    let mut context = Context::new(&model)?;
    context.append("words to begin with");
    context.prefill().await?;
    for _ in 0..64 {
        let fork = context.handle().fork()?;
        context.handle().append(&fork)?;
    }
    Ok("doubled 64 times".into())
}

/// A hundred thousand outputs of one row.
pub async fn outputs() -> Result<String> {
    let model = Model::open_default()?;
    let context = Context::new(&model)?;
    let output = || OutputRequest { row: 0, kind: OutputKind::Entropy };
    let input = Input::Tokens(vec![1]);
    let outputs = (0..100_000).map(|_| output()).collect();
    let pass = Pass { input, positions: None, masks: None, adapter: None, keep: true, outputs };
    let many = forward::execute(context.handle(), pass).await;
    let outputs = (0..1000).map(|_| output()).collect();
    let input = Input::Tokens(vec![1]);
    let pass = Pass { input, positions: None, masks: None, adapter: None, keep: true, outputs };
    let of_one_row = forward::execute(context.handle(), pass).await;
    Ok(format!("{many:?} {of_one_row:?} {}", context.handle().length()))
}

/// Every call that returns at once and costs nothing, a hundred thousand times; how many were refused.
pub async fn free_calls() -> Result<String> {
    let model = Model::open_default()?;
    let mut context = Context::new(&model)?;
    context.append("a few words");
    context.prefill().await?;
    let (handle, length) = (context.handle(), context.handle().length());
    let mut refused = 0;
    for turn in 0..100_000 {
        let priority = if turn % 2 == 0 { Priority::High } else { Priority::Low };
        handle.set_priority(priority);
        refused += u32::from(handle.truncate(length).is_err());
        refused += u32::from(handle.remove(0, 0).is_err());
        refused += u32::from(handle.fork().is_err());
    }
    Ok(refused.to_string())
}

/// A context whose constraint allows no token: an output says so, and the context is what the calls say.
pub async fn nothing_allowed() -> Result<String> {
    let model = Model::open_default()?;
    let mut context = Context::new(&model)?;
    let forbid = (0..model.facts().vocabulary_size).map(|token| (token, f32::NEG_INFINITY)).collect();
    let none = SamplingParams::greedy().logit_bias(forbid).for_token(None, &[]);
    let outputs = vec![
        OutputRequest { row: 1, kind: OutputKind::Token(none) },
        OutputRequest { row: 1, kind: OutputKind::Entropy },
    ];
    let input = Input::Tokens(vec![1, 2]);
    let pass = Pass { input, positions: None, masks: None, adapter: None, keep: true, outputs };
    let answer = forward::execute(context.handle(), pass).await?;
    ensure!(matches!(answer.values[0], Output::NoTokenAllowed), "{answer:?}");
    ensure!(matches!(answer.values[1], Output::Entropy(_)), "the other outputs hold: {answer:?}");
    ensure!(context.handle().length() == 2, "the pass is done");
    context.append("more");
    context.prefill().await?;
    Ok("done".into())
}

/// A program that launches itself, `depth` deep, and waits.
pub async fn nest(depth: &str) -> Result<String> {
    let depth: u32 = depth.parse()?;
    if depth == 0 {
        return Ok("the innermost".into());
    }
    let arguments = vec!["nest".to_string(), (depth - 1).to_string()];
    let child = runtime::launch("test-programs".to_string(), arguments).await?;
    Ok(child.wait().await?)
}
