//! What parsers give, however the answer comes.

use model::formats::{Answer, Format, ParserOptions, Part};

use crate::examples::{EXAMPLES, Example};
use crate::{Seeded, format, parser, read, tools, words};

#[test]
fn every_example_says_what_it_should() {
    for Example(name, text, expected) in EXAMPLES {
        assert_eq!(words(&read(parser(format(name)), [*text])), *expected, "{name}: {text}");
    }
    for format in Format::all() {
        let count = EXAMPLES.iter().filter(|example| example.0 == format.name()).count();
        assert!(count >= 2, "{format:?} has {count} examples");
    }
}

#[test]
fn an_answer_says_the_same_however_it_is_cut() {
    let mut random = Seeded(7);
    for Example(name, text, _) in EXAMPLES {
        // All examples for all formats: what is no markup of a format is text to it.
        for format in Format::all() {
            let whole = read(parser(format), [*text]);
            let check = |pieces: &[&str]| {
                assert_eq!(
                    read(parser(format), pieces.iter().copied()),
                    whole,
                    "{format:?}, {name}: {pieces:?}"
                );
            };
            let mut cuts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            cuts.push(text.len());
            for &at in &cuts {
                check(&[&text[..at], &text[at..]]);
            }
            let each: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            check(&each);
            for _ in 0..20 {
                let mut two = [cuts[random.below(cuts.len())], cuts[random.below(cuts.len())]];
                two.sort_unstable();
                check(&[&text[..two[0]], &text[two[0]..two[1]], &text[two[1]..]]);
            }
        }
    }
}

#[test]
fn without_tools_nothing_is_a_call() {
    for Example(name, text, _) in EXAMPLES {
        let parts = read(format(name).parser(&[], ParserOptions::default()), [*text]);
        let is_text = |part: &Part| matches!(part, Part::Content(_) | Part::Reasoning(_));
        assert!(parts.iter().all(is_text), "{name}: {parts:?}");
    }
    let text = "{\"name\": \"now\", \"parameters\": {}}";
    let mut json = format("llama-json").parser(&[], ParserOptions::default());
    assert_eq!(json.push("{\"name"), [Part::Content("{\"name".to_owned())], "nothing need be held");
    assert_eq!(words(&read(json, [&text[6..]])).len(), 1);
}

#[test]
fn a_program_may_take_calls_of_any_tool() {
    let options = ParserOptions { is_any_tool: true, ..ParserOptions::default() };
    let text = "<tool_call>{\"name\": \"made_up\", \"arguments\": {\"a\": 1}}</tool_call>";
    assert_eq!(words(&read(format("hermes").parser(&[], options), [text])), ["calls made_up {\"a\": 1}"]);
}

#[test]
fn a_prompt_may_have_opened_the_reasoning() {
    let options = ParserOptions { is_reasoning: true, ..ParserOptions::default() };
    for format in Format::all() {
        let prompts = ["<|im_start|>assistant\n<think>\n", "[THINK]", "<|channel|>analysis<|message|>"];
        let opened = prompts.iter().filter(|prompt| format.opens_reasoning(prompt)).count();
        let has_reasoning = !format.name().starts_with("functionary");
        assert_eq!(opened, usize::from(has_reasoning), "{format:?}");
        assert!(!format.opens_reasoning("<|im_start|>assistant\n<think>\n\n</think>\n\n"));
    }
    let check = |name: &str, text: &str, expected: &[&str]| {
        assert_eq!(words(&read(format(name).parser(&tools(), options), [text])), expected, "{name}");
    };
    check("hermes", "\nHm.\n</think>\n\nYes.", &["thinks \"Hm.\"", "says \"Yes.\""]);
    check("hermes", "Hm. <tool_call>", &["thinks \"Hm. <tool_call>\""]);
    check("mistral", "Hm.[/THINK]Yes.", &["thinks \"Hm.\"", "says \"Yes.\""]);
    check(
        "harmony",
        "Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.",
        &["thinks \"Hm.\"", "says \"Yes.\""],
    );
}

#[test]
fn arguments_come_while_they_are_written() {
    let check = |name: &str, begin: &str, expected: &[Part]| {
        let mut parser = parser(format(name));
        assert_eq!(parser.push(begin), expected, "{name}");
    };
    let begun = |name: &str| Part::CallBegin { index: 0, name: name.to_owned() };
    let arguments = |json: &str| Part::CallArguments { index: 0, json: json.to_owned() };
    check(
        "hermes",
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Zü",
        &[begun("weather"), arguments("{\"city\": \"Zü")],
    );
    check(
        "mistral",
        "[TOOL_CALLS]weather[ARGS]{\"city\": \"Zü",
        &[begun("weather"), arguments("{\"city\": \"Zü")],
    );
    // A string comes up to where its end may be.
    check(
        "qwen3-coder",
        "<tool_call>\n<function=run>\n<parameter=code>\nprint(1)\nprint(2)\n</para",
        &[begun("run"), arguments("{\"code\": \"print(1)\\npr")],
    );
    check("glm", "<tool_call>now\n", &[begun("now"), arguments("{")]);
}

#[test]
fn what_could_be_markup_is_held_and_nothing_else() {
    let mut parser = parser(format("hermes"));
    let says = |text: &str| vec![Part::Content(text.to_owned())];
    assert_eq!(parser.push("a <"), says("a"));
    assert_eq!(parser.push("b"), says(" <b"));
    assert_eq!(parser.push("\n<tool_"), []);
    assert_eq!(parser.push("box"), says("\n<tool_box"));
    assert_eq!(parser.push("<tool_call>"), []);
    assert_eq!(parser.push("no"), says("<tool_call>no"));
    assert_eq!(parser.push(" "), []);
    assert_eq!(parser.finish(), says(" "));
    assert_eq!(parser.push("more"), [], "a parser that has finished takes nothing");
}

#[test]
fn a_call_that_fails_is_none_of_the_answer() {
    let text = "<tool_call>{\"name\": \"now\", \"arguments\": {}} oops<tool_call>{\"name\": \"now\", \"arguments\": {}}";
    let answer = Answer::from_parts(&read(parser(format("hermes")), [text]));
    assert_eq!(answer.calls.len(), 1);
    assert_eq!(answer.content, "<tool_call>{\"name\": \"now\", \"arguments\": {}} oops");
}

#[test]
fn long_answers_take_time_in_proportion() {
    let seconds = |text: &str, name: &str| {
        let start = std::time::Instant::now();
        read(
            parser(format(name)),
            text.as_bytes().chunks(4).map(|piece| std::str::from_utf8(piece).unwrap()),
        );
        start.elapsed().as_secs_f64()
    };
    for (name, begin, more) in [
        ("hermes", "<tool_call>{\"name\": \"run\", \"arguments\": {\"code\": \"", "x"),
        ("hermes", "", "<tool_call>{\"name\": "),
        ("hermes", "<tool_call>{\"name\": \"run\", \"arguments\": {\"tags\": ", "["),
        ("hermes", "a", "\n"),
        ("qwen3-coder", "<function=run><parameter=code>", "<function=run><parameter=code>"),
        ("glm", "", "<tool_call>run\n<arg_key>"),
        ("llama-pythonic", "[run(code=", "["),
    ] {
        let text = |count: usize| format!("{begin}{}", more.repeat(count / more.len()));
        // Other work on the machine can make one try slow; time that grows with the square makes each.
        let proportionate = (0..5).any(|_| {
            let (short, long) = (seconds(&text(50_000), name), seconds(&text(200_000), name));
            long < 10.0 * short + 0.5
        });
        assert!(proportionate, "{name} {begin}{more}: four times as long takes over ten times as long");
    }
}
