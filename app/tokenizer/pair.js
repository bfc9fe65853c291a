// A frame before and after the tokenizer, one over the other, with a movable edge between them.
export function mount({ element, props, watch }) {
  const one = (name) => element.querySelector(name);
  const edge = one('input'), figure = one('figure');
  const place = () => {
    figure.style.setProperty('--edge', `${edge.value}%`);
    edge.setAttribute('aria-valuetext', `${edge.value} % original`);
  };
  const load = () => {
    const value = props.value;
    figure.hidden = !value || !value.before;
    if (figure.hidden) return;
    one('.before').src = value.before;
    one('.after').src = value.after;
  };
  edge.addEventListener('input', place);
  place();
  load();
  watch('value', load);
}
