//! `agent`: sessions of programs that let a model call tools.
//!
//! ```text
//! session:  turn . think . turn . think . turn
//! turn:     call of the model (plan) -> tools, all at once, some tried again -> call of the model (follow-up)
//! ```
//!
//! Calls of the model are requests; calls of tools are events, which cost time and are not carried out. What a call of
//! the model takes is only guessed here: the client sends a call no earlier than the answer before.

use fastrand::Rng;
use serde_json::{Value, json};

use super::{Making, Spec};
use crate::commands::aibrix::rows::{Group, Request};
use crate::dataset::text;
use crate::draw;

pub(super) const SPEC: Spec = Spec { name: "agent", make };

const SCHEMA: &str = "aibrix.agent-session.v1";

/// The values of `workload_configs.agent`.
struct Agents {
    turns: u64,
    tools: u64,
    tool_ms: (f64, f64),
    model_ms: (f64, f64),
    think_ms: (f64, f64),
    retry: f64,
    retries: u64,
    initial: u32,
    growth: u32,
    result: u32,
    output: u32,
}

fn between(rng: &mut Rng, (least, most): (f64, f64)) -> f64 {
    least + (most - least) * rng.f64()
}

/// A moment with what happens at it.
struct Step {
    at: f64,
    request: Option<Request>,
    event: Option<Value>,
}

fn make(making: &mut Making<'_>) -> anyhow::Result<Vec<Group>> {
    let config = making.config;
    let key = |name: &str| format!("workload_configs.agent.{name}");
    let count = |name: &str| config.count(&key(name));
    let tokens = |name: &str| Ok::<u32, anyhow::Error>(count(name)?.clamp(1, 1_000_000) as u32);
    let range = |name: &str| -> anyhow::Result<(f64, f64)> {
        let list = config.list(&key(name), 2)?;
        anyhow::ensure!(list[0] <= list[1], "`{}`: found {list:?}, expected least and most", key(name));
        Ok((list[0], list[1]))
    };
    let agents = Agents {
        turns: count("turns_per_session")?,
        tools: count("parallel_tools")?,
        tool_ms: range("tool_latency_ms")?,
        model_ms: range("model_latency_ms")?,
        think_ms: range("think_time_ms")?,
        retry: config.number(&key("retry_probability"))?,
        retries: count("max_tool_retries")?,
        initial: tokens("initial_prompt_tokens")?,
        growth: tokens("context_growth_tokens")?,
        result: tokens("tool_result_tokens")?,
        output: tokens("output_tokens")?,
    };
    anyhow::ensure!(
        agents.retry <= 1.0,
        "`{}`: found {}, expected 0 to 1",
        key("retry_probability"),
        agents.retry
    );
    let mean_ms = 1000.0 / config.positive(&key("session_arrival_rate_rps"))?;
    let mut rng = Rng::with_seed(count("seed")?);
    let (mut steps, mut start) = (Vec::new(), 0.0);
    for session in 0..count("num_sessions")? {
        session_steps(making, &agents, session, start, &mut rng, &mut steps)?;
        start += draw::exponential(&mut rng, mean_ms);
    }
    steps.sort_by(|a, b| a.at.total_cmp(&b.at));
    let mut groups: Vec<Group> = Vec::new();
    for step in steps {
        let timestamp = step.at.round() as u64;
        if groups.last().is_none_or(|group| group.timestamp != timestamp) {
            let group = Group::new(timestamp, Vec::new());
            groups.push(Group { schema_version: Some(SCHEMA.into()), events: Some(Vec::new()), ..group });
        }
        if let Some(group) = groups.last_mut() {
            group.requests.extend(step.request);
            group.events.get_or_insert_default().extend(step.event);
        }
    }
    Ok(groups)
}

fn session_steps(
    making: &Making<'_>,
    agents: &Agents,
    session: u64,
    start: f64,
    rng: &mut Rng,
    steps: &mut Vec<Step>,
) -> anyhow::Result<()> {
    let mut at = start;
    let mut parents: Vec<String> = Vec::new();
    for turn in 0..agents.turns {
        let node = |name: &str| format!("{session}.{turn}.{name}");
        let task = format!("task-{session}");
        let mut call = |at: f64, phase: &str, length: u32, parents: &[String], rng: &mut Rng| {
            let latency = between(rng, agents.model_ms);
            let prompt = text::make(rng, making.tokens, length)?;
            let agent = json!({
                "task_id": task, "node_id": node(phase), "parent_ids": parents, "turn": turn, "phase": phase,
                "expected_latency_ms": latency.round(),
            });
            let request = Request {
                prompt,
                prompt_length: Some(length),
                output_length: Some(agents.output),
                session_id: Some(session.into()),
                agent: Some(agent),
            };
            steps.push(Step { at, request: Some(request), event: None });
            Ok::<f64, anyhow::Error>(at + latency)
        };
        // 1. The model plans.
        let length = if turn == 0 { agents.initial } else { agents.growth };
        let planned = call(at, "plan", length, &parents, rng)?;
        // 2. All tools begin, and the last that ends ends the step.
        let (mut joined, mut tools) = (planned, Vec::new());
        let mut events = Vec::new();
        for tool in 0..agents.tools {
            let name = node(&format!("tool-{tool}"));
            let (mut begin, mut attempt) = (planned, 0);
            loop {
                let latency = between(rng, agents.tool_ms);
                let fails = attempt < agents.retries && rng.f64() < agents.retry;
                let event = json!({
                    "type": "tool", "task_id": task, "node_id": name, "parent_ids": [node("plan")],
                    "session_id": session, "turn": turn, "attempt": attempt,
                    "status": if fails { "retry" } else { "ok" }, "latency_ms": latency.round(),
                });
                events.push(Step { at: begin, request: None, event: Some(event) });
                begin += latency;
                attempt += 1;
                if !fails {
                    break;
                }
            }
            joined = joined.max(begin);
            tools.push(name);
        }
        // 3. The model goes on with the results.
        let results = (agents.result * agents.tools as u32).max(1);
        let parents_of_call = if tools.is_empty() { vec![node("plan")] } else { tools };
        let answered = call(joined, "follow-up", results, &parents_of_call, rng)?;
        parents = vec![node("follow-up")];
        steps.extend(events);
        at = answered + between(rng, agents.think_ms);
    }
    Ok(())
}
