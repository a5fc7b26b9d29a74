"""Questions that a page asks before it does what cannot be undone."""

from nicegui import ui

from .elements import draw_heading


async def ask(question: str, explanation: str, action: str) -> bool:
    """Ask for a confirmation; False where the reader thinks better of it.

    Args:
        question: Names what would be done, and to what.
        explanation: What follows from it.
        action: The text of the button that does it.
    """
    # Not beside the button that asks, which a refresh of the page may remove.
    with (
        ui.context.client.content,
        ui.dialog() as dialog,
        ui.card().style("width:min(460px, 90vw); gap:12px"),
    ):
        dialog.props(f'aria-label="{question.replace(chr(34), chr(39))}"')
        draw_heading(question)
        ui.label(explanation).style("white-space:pre-line; overflow-wrap:anywhere")
        with ui.row().classes("w-full justify-end"):
            back = ui.button("Go back", on_click=lambda: dialog.submit(False))
            back.props("flat autofocus")
            ui.button(action, on_click=lambda: dialog.submit(True)).props("unelevated")
    answer = await dialog
    dialog.delete()
    return bool(answer)
