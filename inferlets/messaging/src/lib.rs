//! Topics and queues between programs of a user: a broadcast reaches every listener, also one who comes late
//! when it is kept; a message in a queue is taken once, in order. Each guarantee is checked and reported.

use inferlet::futures::try_join;
use inferlet::messaging::{broadcast, pull, push, subscribe};
use inferlet::{Parameters, Result, json, runtime};

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// To send each way.
    #[parameter(short = 'n', default = 10)]
    messages: usize,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { messages: count } = options;

    // A name of one's own: other programs of the user do not mix in.
    let topic = format!("messaging-{}", runtime::instance_id());
    let sent: Vec<String> = (0..count).map(|number| format!("message {number}")).collect();

    let early = subscribe(&topic, false)?;
    let also = subscribe(&topic, false)?;
    for message in &sent {
        broadcast(&topic, message, true)?;
    }
    let late = subscribe(&topic, true)?;
    let (mut heard, mut heard_late) = (Vec::new(), Vec::new());
    let mut both = true;
    for _ in 0..count {
        let (one, two, three) = try_join!(early.next(), also.next(), late.next())?;
        both &= one == two;
        heard.push(one);
        heard_late.push(three);
    }

    // The taker waits before anything is there.
    let take = async {
        let mut taken = Vec::new();
        for _ in 0..count {
            taken.push(pull(topic.clone()).await?);
        }
        Ok(taken)
    };
    let give = async {
        for message in &sent {
            push(topic.clone(), message.clone()).await?;
        }
        Ok::<_, inferlet::Error>(())
    };
    let (taken, ()) = try_join!(take, give)?;
    let report = json!({
        "topic": both && heard == sent, "late_listener": heard_late == sent, "queue": taken == sent,
        "messages": count,
    });
    Ok(report.to_string())
}
