export function mount({ element, props, watch, trigger }) {
  const find = (name) => element.querySelector('.' + name);
  const show = async (name, source, alt) => {
    const image = find(name);
    image.alt = alt;
    image.dataset.wanted = source;
    if (!source) { image.removeAttribute('src'); return; }
    const next = new Image();
    next.src = source;
    await next.decode().catch(() => {});
    if (image.dataset.wanted === source) image.src = source;
  };
  const draw = () => {
    const view = props.value;
    if (!view || !view.grid) return;
    show('frame', view.frame, view.frame_alt);
    show('tokens', view.tokens, view.tokens_alt);
    show('sheet', view.sheet, view.sheet_alt);
    find('frame-text').textContent = view.frame_text;
    find('tokens-text').textContent = view.tokens_text;
    find('walls').setAttribute('d', view.walls);
    find('newest').setAttribute('d', view.newest);
    element.querySelector('svg').setAttribute('viewBox', `0 0 ${view.grid[1]} ${view.grid[0]}`);
  };
  draw();
  watch('value', draw);
}
