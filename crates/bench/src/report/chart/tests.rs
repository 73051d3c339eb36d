use super::scale::Scale;
use super::*;

fn lines() -> Figure {
    let points = vec![(2.0, 0.5.into()), (1.0, Reading::between(0.25, 0.2, 0.4)), (3.0, 0.75.into())];
    let lines = Lines {
        x_label: "x (1/s)".into(),
        y_label: "y (s)".into(),
        lines: vec![Line { name: "p50".into(), points }],
    };
    Figure::of("a < b & \"c\"", Plot::Lines(lines))
}

fn bars() -> Figure {
    let bars = Bars {
        y_label: "y".into(),
        x_label: String::new(),
        groups: vec!["g".into(), "h".into()],
        series: vec![
            ("s".into(), vec![Some(Reading::between(2.0, 1.0, 3.0)), Some(1.0.into())]),
            ("none".into(), vec![None, Some(0.5.into())]),
        ],
        reference: Some(1.0),
    };
    Figure::of("t", Plot::Bars(bars))
}

fn heat() -> Figure {
    let heat = Heat {
        x_label: String::new(),
        columns: vec!["a".into(), "b".into()],
        rows: vec![("r".into(), vec![Some(1.0), None])],
    };
    Figure::of("t", Plot::Heat(heat))
}

/// The values of an attribute of every element of this kind.
fn attributes(svg: &str, element: &str, name: &str) -> Vec<f64> {
    let (start, name) = (format!("<{element} "), format!("{name}=\""));
    let elements = svg.split(start.as_str()).skip(1);
    let value = |element: &str| {
        let rest = element.split('>').next()?.split(name.as_str()).nth(1)?;
        rest.split('"').next()?.parse().ok()
    };
    elements.filter_map(value).collect()
}

#[test]
fn scales_hold_their_values_and_have_round_marks() {
    for highest in [1e-5, 0.03, 0.999, 1.0, 1.01, 7.0, 12.5, 99.0, 100.0, 12_345.0] {
        let scale = Scale::new(highest);
        let end = *scale.marks.last().unwrap();
        assert!(end >= highest * 0.999 && end <= highest * 2.0, "{highest}: {scale:?}");
        assert!((3..=7).contains(&scale.marks.len()), "{highest}: {scale:?}");
        let texts: std::collections::BTreeSet<String> =
            scale.marks.iter().map(|mark| scale.text(*mark)).collect();
        assert_eq!(texts.len(), scale.marks.len(), "{highest}: marks read alike in {texts:?}");
    }
    assert_eq!(Scale::new(f64::NAN).marks.last(), Some(&1.0));
}

#[test]
fn a_line_goes_from_left_to_right_whatever_the_order_of_its_points() {
    let svg = lines().svg(Theme::Light);
    let points = svg.split("<polyline points=\"").nth(1).unwrap().split('"').next().unwrap();
    let x: Vec<f64> =
        points.split(' ').map(|point| point.split(',').next().unwrap().parse().unwrap()).collect();
    assert_eq!(x.len(), 3);
    assert!(x.is_sorted(), "{x:?}");
    assert!(svg.contains("a &lt; b &amp; &quot;c&quot;"));
}

#[test]
fn a_bar_is_as_tall_as_its_value_and_its_spread_goes_from_the_smallest_to_the_largest() {
    let svg = bars().svg(Theme::Light);
    // The page, two of the legend, then the bars: 2 of one series, 1 of the other.
    let tall = attributes(&svg, "rect", "height")[3..].to_vec();
    assert_eq!(tall.len(), 3);
    assert!((tall[0] / tall[1] - 2.0).abs() < 0.01 && (tall[1] / tall[2] - 2.0).abs() < 0.01, "{tall:?}");
    // The spread of 1 to 3 is the only line upwards, from the height of the second bar to three of it.
    let (x1, x2) = (attributes(&svg, "line", "x1"), attributes(&svg, "line", "x2"));
    let (y1, y2) = (attributes(&svg, "line", "y1"), attributes(&svg, "line", "y2"));
    let upwards: Vec<usize> = (0..x1.len()).filter(|&line| x1[line] == x2[line]).collect();
    let &[line] = &upwards[..] else { panic!("{upwards:?}") };
    assert!(((y1[line] - y2[line]) / tall[1] - 2.0).abs() < 0.01, "{y1:?} {y2:?}");
    assert_eq!(svg.matches("stroke-dasharray").count(), 1);
}

#[test]
fn plots_of_a_figure_are_one_above_the_other() {
    let plots = [bars(), lines(), heat()].map(|figure| figure.plots[0].clone()).to_vec();
    let svg = Figure { title: "t".into(), plots }.svg(Theme::Dark);
    let (y, tall) = (attributes(&svg, "rect", "y"), attributes(&svg, "rect", "height"));
    let circles = attributes(&svg, "circle", "cy");
    let lowest_bar = y[2] + tall[3];
    assert!(circles.iter().all(|circle| *circle > lowest_bar), "{circles:?} below {lowest_bar}");
    assert!(circles.iter().all(|circle| circle < y.last().unwrap()));
    assert_eq!(tall[0], attributes(&svg, "svg", "height")[0]);
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}

#[test]
fn names_that_do_not_fit_are_cut_and_take_turns() {
    let groups: Vec<String> = (0..12).map(|group| format!("workload-with-a-name-{group}")).collect();
    let values = vec![Some(1.0.into()); 12];
    let long = "series ".repeat(40);
    let series = vec![(long.clone(), values.clone()), (long.clone(), values)];
    let bars = Bars { y_label: String::new(), x_label: String::new(), groups, series, reference: None };
    let svg = Figure::of(long, Plot::Bars(bars)).svg(Theme::Light);
    assert!(svg.contains('…') && !svg.contains("workload-with-a-name-11"));
    let mut heights = attributes(&svg, "text", "y");
    heights.dedup();
    let rows = heights.windows(2).filter(|pair| (pair[0] - pair[1]).abs() == 15.0).count();
    assert_eq!(rows, 11, "{heights:?}");
}

#[test]
fn every_chart_becomes_pixels_with_text_and_a_page() {
    for theme in [Theme::Light, Theme::Dark] {
        for svg in [lines().svg(theme), bars().svg(theme), heat().svg(theme)] {
            let png = render(&svg, Format::Png, 48).unwrap();
            let pixels = Pixmap::decode_png(&png).unwrap();
            assert_eq!((pixels.width(), pixels.height()), (480, 288));
            // The title is there: pixels in its strip differ from the page's corner.
            let page = pixels.pixel(0, 0);
            let strip = (0..480).flat_map(|x| (8..22).map(move |y| (x, y)));
            assert!(strip.filter(|(x, y)| pixels.pixel(*x, *y) != page).count() > 5);
            assert!(render(&svg, Format::Pdf, 0).unwrap().starts_with(b"%PDF-"));
        }
    }
    assert!(render(&lines().svg(Theme::Light), Format::Png, 0).unwrap_err().to_string().contains("0 dpi"));
}
