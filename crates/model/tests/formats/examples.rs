//! Answers as models write them, and what they say.

/// An answer: the format, its text, and what it says in words.
pub(crate) struct Example(
    pub(crate) &'static str,
    pub(crate) &'static str,
    pub(crate) &'static [&'static str],
);

pub(crate) const EXAMPLES: &[Example] = &[
    // Hermes
    Example("hermes", "", &[]),
    Example("hermes", "Just <b>text</b> with < and <tool.", &["says \"Just <b>text</b> with < and <tool.\""]),
    Example(
        "hermes",
        "Sure.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Zürich\"}}\n</tool_call>\n<tool_call>\n\
         {\"name\": \"now\", \"arguments\": {}}\n</tool_call>",
        &["says \"Sure.\"", "calls weather {\"city\": \"Zürich\"}", "calls now {}"],
    ),
    Example(
        "hermes",
        "<think>\nLook it up.\n\n</think>\n\nSure.\n\n<tool_call>{\"arguments\":{\"city\":\"a</tool_call>\\\"b\\u00e9\"},\
         \"name\":\"weather\"}</tool_call>\nDone.\n",
        &[
            "thinks \"Look it up.\"",
            "says \"Sure.\\n\"",
            "calls weather {\"city\":\"a</tool_call>\\\"b\\u00e9\"}",
            "says \"\\nDone.\\n\"",
        ],
    ),
    Example(
        "hermes",
        "<tool_call>\n{\"name\": \"run\", \"arguments\": {\"code\": \"x\", \"options\": {\"a\": [1, -2.5e3, {\"b\": null}], \
         \"c\": true}, \"tags\": []}}",
        &[
            "calls run {\"code\": \"x\", \"options\": {\"a\": [1, -2.5e3, {\"b\": null}], \"c\": true}, \"tags\": []}",
        ],
    ),
    Example(
        "hermes",
        "a <tool_call>\n{\"name\": \"unknown\", \"arguments\": {}}\n</tool_call>",
        &["says \"a <tool_call>\\n{\\\"name\\\": \\\"unknown\\\", \\\"arguments\\\": {}}\\n</tool_call>\""],
    ),
    Example(
        "hermes",
        "<tool_call>oops <tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>",
        &["says \"<tool_call>oops \"", "calls now {}"],
    ),
    Example(
        "hermes",
        "Hm \n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": 01}}\n</tool_call>",
        &[
            "says \"Hm \"",
            "calls weather {\"city\": 0 in vain",
            "says \"\\n<tool_call>\\n{\\\"name\\\": \\\"weather\\\", \\\"arguments\\\": {\\\"city\\\": 01}}\\n</tool_call>\"",
        ],
    ),
    Example(
        "hermes",
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Zür",
        &[
            "calls weather {\"city\": \"Zür in vain",
            "says \"<tool_call>\\n{\\\"name\\\": \\\"weather\\\", \\\"arguments\\\": {\\\"city\\\": \\\"Zür\"",
        ],
    ),
    Example(
        "hermes",
        "<tool_call>{\"name\": \"now\", \"arguments\": \"{}\"}</tool_call>",
        &[
            "calls now  in vain",
            "says \"<tool_call>{\\\"name\\\": \\\"now\\\", \\\"arguments\\\": \\\"{}\\\"}</tool_call>\"",
        ],
    ),
    Example(
        "hermes",
        "{\"name\": \"now\", \"arguments\": {}}",
        &["says \"{\\\"name\\\": \\\"now\\\", \\\"arguments\\\": {}}\""],
    ),
    Example("hermes", "a <think>b</think>", &["says \"a <think>b</think>\""]),
    Example("hermes", "<think>never closed\n\n", &["thinks \"never closed\\n\\n\""]),
    Example(
        "hermes",
        "<tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>\n<think>\nMore.\n</think>\n\nYes.",
        &["calls now {}", "thinks \"More.\"", "says \"Yes.\""],
    ),
    // Qwen3-Coder
    Example(
        "qwen3-coder",
        "I run it.\n\n<tool_call>\n<function=run>\n<parameter=code>\nif a < b:\n    print(\"</param>\")\n\n</parameter>\n\
         <parameter=options>\n{\"a\": [1, 2]}\n</parameter>\n<parameter=tags>\n[\"x\"]\n</parameter>\n</function>\n</tool_call>\n\
         <tool_call>\n<function=now>\n</function>\n</tool_call>",
        &[
            "says \"I run it.\"",
            "calls run {\"code\": \"if a < b:\\n    print(\\\"</param>\\\")\\n\", \"options\": {\"a\": [1, 2]}, \"tags\": [\"x\"]}",
            "calls now {}",
        ],
    ),
    Example(
        "qwen3-coder",
        "<function=weather><parameter=city>5</parameter><parameter=days>5</parameter><parameter=detailed>True</parameter>\
         <parameter=other>[1</parameter></function>\n</tool_call>ok",
        &[
            "calls weather {\"city\": \"5\", \"days\": 5, \"detailed\": true, \"other\": \"[1\"}",
            "says \"ok\"",
        ],
    ),
    Example(
        "qwen3-coder",
        "<tool_call>\n<function=weather>\n<parameter=city>\nZürich\n</parameter>\noops",
        &[
            "calls weather {\"city\": \"Zürich\" in vain",
            "says \"<tool_call>\\n<function=weather>\\n<parameter=city>\\nZürich\\n</parameter>\\noops\"",
        ],
    ),
    Example("qwen3-coder", "<function=f>{}</function>", &["says \"<function=f>{}</function>\""]),
    // Llama, JSON
    Example(
        "llama-json",
        "{\"name\": \"weather\", \"parameters\": {\"city\": \"a; {\\\"b\\\"}\"}}; {\"name\": \"now\", \"parameters\": {}}",
        &["calls weather {\"city\": \"a; {\\\"b\\\"}\"}", "calls now {}"],
    ),
    Example(
        "llama-json",
        "Wait. <|python_tag|>{\"type\": \"function\", \"name\": \"now\", \"parameters\": {}} ok",
        &["says \"Wait. \"", "calls now {}", "says \" ok\""],
    ),
    Example(
        "llama-json",
        "\n{\"name\": \"Bob\", \"age\": 3}",
        &["says \"\\n{\\\"name\\\": \\\"Bob\\\", \\\"age\\\": 3}\""],
    ),
    Example(
        "llama-json",
        "So: {\"name\": \"now\", \"parameters\": {}}",
        &["says \"So: {\\\"name\\\": \\\"now\\\", \\\"parameters\\\": {}}\""],
    ),
    Example(
        "llama-json",
        "{\"name\": \"now\", \"parameters\": {}",
        &["calls now {} in vain", "says \"{\\\"name\\\": \\\"now\\\", \\\"parameters\\\": {}\""],
    ),
    Example(
        "llama-json",
        "<|python_start|>{\"name\": \"now\", \"parameters\": {}}<|python_end|> ok",
        &["calls now {}", "says \" ok\""],
    ),
    Example("llama-json", "<|python_tag|>print(1)", &["says \"<|python_tag|>print(1)\""]),
    // Llama, Python
    Example(
        "llama-pythonic",
        "[weather(city=\"Zürich, 'CH'\", days=3, detailed=True), run(code='a\\n\\'b\\'', options={\"a\": [1, None, -2.5]}), now()]",
        &[
            "calls weather {\"city\": \"Zürich, 'CH'\", \"days\": 3, \"detailed\": true}",
            "calls run {\"code\": \"a\\n'b'\", \"options\": {\"a\": [1, null, -2.5]}}",
            "calls now {}",
        ],
    ),
    Example(
        "llama-pythonic",
        "Sure.<|python_start|>[weather(city=\"5\", days=\"5\")]<|python_end|>",
        &["says \"Sure.\"", "calls weather {\"city\": \"5\", \"days\": 5}"],
    ),
    Example("llama-pythonic", "[now()<think>]", &["calls now {}", "thinks \"]\""]),
    Example("llama-pythonic", "[1] a note", &["says \"[1] a note\""]),
    Example("llama-pythonic", "[now(), oops(1)]", &["calls now {}", "says \", oops(1)]\""]),
    Example(
        "llama-pythonic",
        "[weather(city) says more",
        &["calls weather { in vain", "says \"[weather(city) says more\""],
    ),
    // Mistral
    Example(
        "mistral",
        "Sure.[TOOL_CALLS]weather[ARGS]{\"city\": \"[TOOL_CALLS]\"}[TOOL_CALLS]now[CALL_ID]abcdefghi[ARGS]{}",
        &["says \"Sure.\"", "calls weather {\"city\": \"[TOOL_CALLS]\"}", "calls now {}"],
    ),
    Example(
        "mistral",
        "[THINK]Well [1].[/THINK]Yes.[TOOL_CALLS]unknown[ARGS]{}",
        &["thinks \"Well [1].\"", "says \"Yes.[TOOL_CALLS]unknown[ARGS]{}\""],
    ),
    Example(
        "mistral-list",
        "[TOOL_CALLS] [{\"name\": \"weather\", \"arguments\": {\"city\": \"]\"}, \"id\": \"abcdefghi\"}, {\"name\": \"now\", \
         \"arguments\": {}}]",
        &["calls weather {\"city\": \"]\"}", "calls now {}"],
    ),
    Example(
        "mistral-list",
        "[TOOL_CALLS][{\"name\": \"now\", \"arguments\": {}}, oops]",
        &["calls now {}", "says \", oops]\""],
    ),
    Example("mistral-list", "[TOOL_CALLS][]", &["says \"[TOOL_CALLS][]\""]),
    // Functionary
    Example(
        "functionary-v3.1",
        "Ok <function=weather>{\"city\": \"</function>\"}</function><function=now>{}</function>.",
        &["says \"Ok \"", "calls weather {\"city\": \"</function>\"}", "calls now {}", "says \".\""],
    ),
    Example(
        "functionary-v3.1",
        "<function=now>{} </function>",
        &["calls now {} in vain", "says \"<function=now>{} </function>\""],
    ),
    Example(
        "functionary-v3.2",
        "all\nSure, >>> is a mark.>>>weather\n{\"city\": \">>>now\\n{}\"}>>>now\n{}",
        &["says \"Sure, >>> is a mark.\"", "calls weather {\"city\": \">>>now\\n{}\"}", "calls now {}"],
    ),
    Example("functionary-v3.2", "now\n{}", &["calls now {}"]),
    Example("functionary-v3.2", "Hello all\nnow\n{}", &["says \"Hello all\\nnow\\n{}\""]),
    Example("functionary-v3.2", "all\nall\nnow\n{}", &["says \"all\\nnow\\n{}\""]),
    // DeepSeek
    Example(
        "deepseek-v3",
        "<think>\nWell.\n</think>\n\nSure.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n\
         {\"city\": \"```\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```\
         <｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        &["thinks \"Well.\"", "says \"Sure.\"", "calls weather {\"city\": \"```\"}", "calls now {}"],
    ),
    Example(
        "deepseek-v3",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}<｜tool▁call▁end｜>",
        &[
            "calls now {} in vain",
            "says \"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>now\\n```json\\n{}<｜tool▁call▁end｜>\"",
        ],
    ),
    Example(
        "deepseek-v3.1",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"city\": \"x\"}<｜tool▁call▁end｜>\
         <｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        &["calls weather {\"city\": \"x\"}", "calls now {}"],
    ),
    Example(
        "deepseek-v3.1",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜> and more",
        &["calls now {}", "says \" and more\""],
    ),
    Example(
        "deepseek-v3.1",
        "<｜tool▁calls▁begin｜> is a mark",
        &["says \"<｜tool▁calls▁begin｜> is a mark\""],
    ),
    // GLM
    Example(
        "glm",
        "\n<think>Well.</think>\nSure.\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>12 \"x\"\n</arg_value>\n\
         <arg_key>days</arg_key>\n<arg_value>12</arg_value>\n</tool_call>\n<tool_call>now\n</tool_call>",
        &[
            "thinks \"Well.\"",
            "says \"Sure.\"",
            "calls weather {\"city\": \"12 \\\"x\\\"\\n\", \"days\": 12}",
            "calls now {}",
        ],
    ),
    Example(
        "glm",
        "<tool_call>run<arg_key>code</arg_key><arg_value>é</arg_value><arg_key>tags</arg_key><arg_value>[1]</arg_value></tool_call>",
        &["calls run {\"code\": \"é\", \"tags\": [1]}"],
    ),
    Example(
        "glm",
        "<tool_call>now and then\n</tool_call>",
        &["calls now {} in vain", "says \"<tool_call>now and then\\n</tool_call>\""],
    ),
    Example(
        "glm",
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Zü",
        &[
            "calls weather {\"city\": \" in vain",
            "says \"<tool_call>weather\\n<arg_key>city</arg_key>\\n<arg_value>Zü\"",
        ],
    ),
    // Harmony
    Example(
        "harmony",
        "<|channel|>analysis<|message|>Look.\n<|end|><|start|>assistant<|channel|>commentary to=functions.weather \
         <|constrain|>json<|message|>{\"city\": \"<|end|>\"}<|call|>",
        &["thinks \"Look.\\n\"", "calls weather {\"city\": \"<|end|>\"}"],
    ),
    Example(
        "harmony",
        "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant to=functions.now<|channel|>commentary json\
         <|message|>{}<|call|><|start|>assistant<|channel|>final<|message|>Done <|x|>.<|return|>",
        &["says \"I look.\"", "calls now {}", "says \"Done <|x|>.\""],
    ),
    Example("harmony", "<|channel|>final<|message|> \nHi", &["says \" \\nHi\""]),
    Example(
        "harmony",
        "<|channel|>commentary to=functions.unknown <|constrain|>json<|message|>{}<|call|>",
        &["says \"<|channel|>commentary to=functions.unknown <|constrain|>json<|message|>{}\""],
    ),
    Example(
        "harmony",
        "<|channel|>commentary to=functions.now<|message|>{\"a\": 1",
        &[
            "calls now {\"a\": 1 in vain",
            "says \"<|channel|>commentary to=functions.now<|message|>{\\\"a\\\": 1\"",
        ],
    ),
];
