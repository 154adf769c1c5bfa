"""What the columns of tables are called, in the languages that questions come in.

Belongs here: the names, small and composed, each list in the order of preference. Does not belong here: what is made of
them (column_guess, table_files).
"""

from collections.abc import Iterable

QUESTION_NAMES = (
    *("question", "query", "questions", "queries", "anchor", "ask", "问题", "提问", "問題", "質問", "질문", "вопрос"),
    *("سؤال", "frage", "pregunta", "pergunta", "domanda", "vraag", "question1", "sentence1", "text1"),
)
"""What the column of questions is called."""
TEXT_NAMES = (
    *(
        "document",
        "content",
        "text",
        "文本",
        "内容",
        "文字",
        "內容",
        "テキスト",
        "본문",
        "текст",
        "نص",
        "texte",
        "texto",
    ),
    *("testo", "tekst"),
)
"""A column of texts, which are passages beside a question, and questions beside a label."""
LABEL_NAMES = ("label_text", "label_name", "label", "intent", "category", "标签")
"""What a label is called: a passage, where no column is called after an answer."""
OTHER_LABEL_NAMES = (
    *(
        "类别",
        "分类",
        "意图",
        "类型",
        "labels",
        "标签名称",
        "標籤",
        "類別",
        "分類",
        "意圖",
        "類型",
        "ラベル",
        "カテゴリ",
    ),
    *(
        "カテゴリー",
        "意図",
        "라벨",
        "레이블",
        "카테고리",
        "분류",
        "의도",
        "метка",
        "категория",
        "класс",
        "تصنيف",
        "فئة",
    ),
    *("kategorie", "klasse", "absicht", "catégorie", "categorie", "étiquette", "categoría", "categoria"),
    *("etiqueta", "rótulo", "intención", "intenção", "etichetta", "intento", "class", "class_name", "topic", "tag"),
    *("tags", "sentiment", "emotion"),
)
"""What a label is called beside a text; beside a question it is a passage where no column holds sentences."""
PASSAGE_NAMES = (
    *("context", "answer", "passage", "answers", "positive", "document", "response", "reply"),
    *("答案", "回答", "答复", "回复", "解答", "段落", "答え", "回答文", "답변", "ответ", "контекст", "جواب", "antwort"),
    *("kontext", "réponse", "reponse", "contexte", "respuesta", "contexto", "resposta", "risposta", "contesto"),
    *("antwoord", "question2", "sentence2", "text2", *TEXT_NAMES),
)
"""What the column of passages is called that are no labels."""
TITLE_NAMES = (
    *("title", "headline", "heading", "subject", "标题", "題目", "题目", "標題", "タイトル", "제목", "заголовок"),
    *("titel", "betreff", "titre", "título", "titulo", "titolo", "عنوان"),
)
"""What stands above a text, and is asked where there is no question."""
SUBJECT_NAMES = ("term", "name", "keyword", "article", "summary", "abstract", "名称", "知识点", "关键词", "摘要")
"""What a text is about: asked where the text has a group. Beside a label it is a word in the text, or who wrote it."""
GROUP_NAMES = ("category", "topic", "tag", "tags", "类别", "分类", "类型", "類別", "分類", "類型")
"""Labels that sort articles as well as questions."""
REMARK_NAMES = (
    *("comment", "comments", "remark", "remarks", "note", "notes", "备注", "注释", "备考", "備註", "備考", "비고"),
    *("примечание", "комментарий", "ملاحظات", "bemerkung", "bemerkungen", "kommentar", "anmerkung", "commentaire"),
    *("remarque", "comentario", "comentarios", "comentário", "observação", "opmerking"),
)
"""What is written about a row: neither question nor passage, while there is another column."""


def names_both(headers: Iterable[str]) -> bool:
    """Whether the headers name a question and a passage."""
    names = {header.casefold() for header in headers}
    return bool(names & set(QUESTION_NAMES) and names & {*PASSAGE_NAMES, *LABEL_NAMES, *OTHER_LABEL_NAMES})


def names_labelled_texts(headers: Iterable[str]) -> bool:
    """Whether the headers name a text and a label."""
    names = {header.casefold() for header in headers}
    return bool(names & set(TEXT_NAMES) and names & {*LABEL_NAMES, *OTHER_LABEL_NAMES})
